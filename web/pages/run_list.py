"""The list of runs, with filters that stand in the address. ``web.pages.run`` has the page of one run."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from flask import Blueprint, g, request
from werkzeug.wrappers import Response

from pipelines.runs.listing import GROUPS, RunFilter
from web.backing import service
from web.guard.rights import visible
from web.pages.frame import fresh, number_argument, page
from web.pages.jobwords import mark_of, marks_in_words

blueprint: Final = Blueprint("runs_pages", __name__)

_LIMIT: Final = 50
_MEMBERS: Final = ("project", "state", "branch", "by", "text")


@blueprint.get("/runs")
def list_runs() -> Response:
    """The runs that wait, run or ended."""
    wanted = _filter()
    before, after = number_argument("before"), number_argument("after")
    seen = visible(g.rights)
    found = service().listing.page(wanted, before=before, after=after, limit=_LIMIT, projects=seen)
    marks = service().jobs.marks([run.number for run in found.runs])
    shown: dict[str, Any] = {
        "page": found,
        "marks": marks,
        "mark_of": mark_of,
        "in_words": marks_in_words,
        "wanted": msgspec.structs.asdict(wanted),
        "groups": tuple(GROUPS),
        "link": lambda **changes: _link(wanted, **changes),
        "is_filtered": wanted != RunFilter(),
        "live": before is None and after is None,
    }
    if request.headers.get("HX-Request"):
        return fresh("runs_table.html", (found, marks), **shown)
    names = [project.name for project in service().projects.current() if seen is None or project.name in seen]
    if wanted.project and wanted.project not in names:  # an archived one: the field says what is chosen
        names.append(wanted.project)
    counts = {state: service().listing.count(state, projects=seen) for state in ("queued", "running", "blocked")}
    views = [view for view in service().preferences.get(g.user.name).views if view.path.startswith("/runs?")]
    view = next((view for view in views if view.path == _link(wanted)), None)
    return page("runs.html", **shown, projects=names, counts=counts, views=views, view=view)


def _filter() -> RunFilter:
    """The filter from the address, without values that make no sense."""
    values = {name: request.args.get(name, "").strip()[:200] for name in _MEMBERS}
    state = values.pop("state")
    return RunFilter(**values, state=state if state in GROUPS else None)


def _link(wanted: RunFilter, **changes: str | int | None) -> str:
    """The address of the list with some members changed; it begins at the first page unless a page is among them."""
    members = {**msgspec.structs.asdict(wanted), **changes}
    query = urlencode({name: value for name, value in members.items() if value})
    return f"/runs?{query}" if query else "/runs"
