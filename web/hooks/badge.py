"""GET /badge/PROJECT.svg[?branch=NAME]: the state of the newest run, for READMEs.

A project's settings say whether everybody may see it. Others get the same grey picture as for a project that does not
exist: a README shows a whole picture, and nobody learns what exists. The picture is fetched again at every look, and is
304 when nothing changed: the caches of forges (GitHub's camo) honour that.
"""

from __future__ import annotations

from html import escape
from typing import Final

from flask import Blueprint, Response, request
from werkzeug.wrappers import Response as AnyResponse

from pipelines.errors import NotFoundError
from pipelines.model import AnyRunState, Project
from pipelines.runs.history import newest
from web.backing import service
from web.guard import current_user

blueprint: Final = Blueprint("badge", __name__)

_LOOKS: Final[dict[AnyRunState | None, tuple[str, str]]] = {
    "succeeded": ("passing", "#1a7f37"),
    "warnings": ("passing", "#1a7f37"),
    "failed": ("failing", "#b42318"),
    "error": ("error", "#b42318"),
    "cancelled": ("cancelled", "#57606a"),
    "blocked": ("waits", "#8a5a00"),
    "running": ("running", "#0b62b0"),
    "queued": ("queued", "#57606a"),
    None: ("no runs", "#57606a"),
}
_HIDDEN: Final = ("unknown", "#57606a")
_LABEL: Final = "build"
_PADDING: Final = 6
_LETTER: Final = 6.6  # px, about, at 11 px
_HEIGHT: Final = 20


@blueprint.get("/badge/<project>.svg")
def badge(project: str) -> AnyResponse:
    """The picture; it shows no state to somebody who may not see the project's badge."""
    found = _visible(project)
    if found is None:
        word, colour = _HIDDEN
    else:
        run = newest(service().database, project, branch=request.args.get("branch") or None)
        word, colour = _LOOKS[run.state if run else None]
    response = Response(draw(_LABEL, word, colour), mimetype="image/svg+xml")
    is_public = found is not None and found.hook.public_badge
    response.headers["Cache-Control"] = ("public" if is_public else "private") + ", no-cache, max-age=0"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.add_etag()
    return response.make_conditional(request)


def _visible(name: str) -> Project | None:
    """The project, if the asker may see its badge."""
    try:
        found = service().projects.get(name)
    except NotFoundError:
        return None
    user = current_user()
    if found.hook.public_badge or (user is not None and service().roles.of_user(user).may(name, "read")):
        return found
    return None


def draw(label: str, word: str, colour: str) -> str:
    """An SVG of two fields, without scripts, styles or references."""
    left, right = (round(2 * _PADDING + _LETTER * len(text)) for text in (label, word))
    said = escape(f"{label}: {word}")
    texts = "".join(
        f'<text x="{centre}" y="14" textLength="{width - 2 * _PADDING}" lengthAdjust="spacingAndGlyphs">'
        f"{escape(text)}</text>"
        for text, centre, width in ((label, left / 2, left), (word, left + right / 2, right))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{_HEIGHT}" role="img"'
        f' aria-label="{said}">'
        f"<title>{said}</title>"
        f'<rect width="{left + right}" height="{_HEIGHT}" rx="3" fill="#3a3f46"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right - 3}z" fill="{colour}"/>'
        f'<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">{texts}</g>'
        "</svg>\n"
    )
