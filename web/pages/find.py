"""Finding: what the palette shows while somebody types, and the same as a page for those without scripts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, urlencode

import msgspec
from flask import Blueprint, Response, g, request

from pipelines.accounts.users import User
from pipelines.runs.finding import FoundRun, find_runs
from pipelines.runs.rollups import find_heads
from registry.server.survey import repository_names
from web.backing import engine, registry, service
from web.errors import NotFoundError
from web.guard.rights import readable, visible
from web.pages.api import matching
from web.pages.frame import page

blueprint: Final = Blueprint("find_pages", __name__)

_MOST: Final = 20
_RUNS: Final = 8
_EACH: Final = 5
_LONGEST: Final = 200
_AMONG: Final = 5000
"""Of how many repositories it is looked up whether this user may see them."""


class Hit(msgspec.Struct, frozen=True):
    """One thing that was found. symbol: of the sprite. kind: in a word. path: where it is."""

    symbol: str
    text: str
    kind: str
    path: str


@blueprint.get("/find")
def find() -> Response:
    """What has the text: runs, commits, projects, branches, images, people, pages; 20 at most."""
    text = request.args.get("q", "").strip()[:_LONGEST]
    hits = list(_found(text))[:_MOST]
    if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json":
        return Response(msgspec.json.encode(hits), mimetype="application/json")
    return page("find.html", text=text, hits=hits)


def _found(text: str) -> Iterator[Hit]:
    if text.startswith("@"):
        yield from _people(text[1:].strip())
        return
    if text.startswith("#"):
        yield from _runs(text)
        return
    yield from _projects(text)
    if text:
        yield from _runs(text)
        yield from _branches(text)
        yield from _images(text)
        yield from _containers(text)
    yield from _places(text)
    if len(text) > 1:
        yield from _operations(text)
    if text:
        yield Hit("search", f"All runs with “{text}”", "search", f"/runs?{urlencode({'text': text})}")


def _runs(text: str) -> Iterator[Hit]:
    for run in find_runs(service().database, text, projects=visible(g.rights), limit=_RUNS):
        yield _of_run(run)


def _of_run(run: FoundRun) -> Hit:
    trigger = run.trigger
    title = trigger.title or trigger.tag or trigger.branch or "a build by hand"
    commit = f" {trigger.commit[:7]}" if trigger.commit else ""
    return Hit(
        f"s-{run.state}", f"{run.project} #{run.number} {title[:120]}", f"{run.state}{commit}", f"/runs/{run.number}"
    )


def _branches(text: str) -> Iterator[Hit]:
    for project, kind, name, run in find_heads(service().database, text, projects=visible(g.rights), limit=_EACH):
        yield Hit("tag" if kind == "tag" else "branch", f"{project} / {name[:120]}", kind, f"/runs/{run}")


def _people(text: str) -> Iterator[Hit]:
    found = find_runs(service().database, "", by=text, projects=visible(g.rights), limit=200)
    names = dict.fromkeys(run.trigger.by for run in found if run.trigger.by)
    for name in list(names)[:_MOST]:
        yield Hit("user", f"Runs of {name[:100]}", "person", f"/runs?{urlencode({'by': name})}")


def _projects(text: str) -> Iterator[Hit]:
    seen = visible(g.rights)
    found = [each for each in service().projects.current() if seen is None or each.name in seen]
    wanted = text.casefold()
    for name in [each.name for each in found if wanted in each.name.casefold()][:_EACH]:
        yield Hit("project", name, "project", f"/projects/{quote(name)}")
        if text:
            yield from _of_project(name)


def _of_project(name: str) -> Iterator[Hit]:
    yield Hit("runs", f"Runs of {name}", "page", f"/runs?{urlencode({'project': name})}")
    if g.rights.may(name, "maintain"):
        yield Hit("service", f"Settings of {name}", "settings", f"/projects/{quote(name)}/settings")


def _images(text: str) -> Iterator[Hit]:
    try:
        store, hidden = registry().store, registry().settings.hidden_range
    except NotFoundError:
        return
    names = repository_names(store, hidden, text, _AMONG)
    for name in itertools.islice(readable(service(), g.rights, names), _EACH):
        yield Hit("image", name, "image", f"/images/{quote(name)}")


def _operations(text: str) -> Iterator[Hit]:
    for operation in itertools.islice(matching(text), _EACH):
        yield Hit("file", f"{operation.method} {operation.path}", "API", f"/api/{operation.name}")


def _containers(text: str) -> Iterator[Hit]:
    """Containers by their names and images, as the last list of them says."""
    known = engine()
    if known is None or not g.rights.may_everywhere("read"):
        return
    wanted = text.casefold()
    found = [each for each in known.lately() if wanted in each.name.casefold() or wanted in each.image.casefold()]
    for each in found[:_EACH]:
        yield Hit("box", each.name, f"container {each.word}", f"/containers/{each.short}")


def _places(text: str) -> Iterator[Hit]:
    """The pages that this user may open, by their names and by words for what is on them."""
    user: User = g.user
    is_admin = user.role == "admin"
    places = [
        ("home", "Home", "/", "start overview failing", True),
        ("project", "Projects", "/projects", "repositories", True),
        ("runs", "Runs", "/runs", "builds history", True),
        ("image", "Images", "/images", "registry tags", True),
        ("box", "Containers", "/containers", "engine docker ps", user.role != "guest"),
        ("link", "Networks", "/networks", "engine docker", user.role != "guest"),
        ("disk", "Volumes", "/volumes", "engine docker", user.role != "guest"),
        ("worker", "Workers", "/workers", "queue", True),
        ("service", "Service", "/service", "version settings health backup", is_admin),
        ("disk", "Disk", "/disk", "service cache space", user.role != "guest"),
        ("plus", "Connect a repository", "/projects/-/new", "new project webhook", is_admin),
        ("user", "Users", "/users", "people roles", is_admin),
        ("key", "Tokens", "/tokens", "api", is_admin),
        ("file", "Audit", "/audit", "trail who", is_admin or g.rights.may_somewhere("maintain")),
        ("file", "API", "/api", "rest openapi documentation endpoints", True),
        ("user", "Account", "/account", "password sessions tokens sign out", True),
        ("theme", "Look", "/account#look", "colours theme dark density rows keys", True),
    ]
    wanted = text.casefold()
    for symbol, name, path, words, is_shown in places:
        if is_shown and (wanted in name.casefold() or (text and wanted in words)):
            yield Hit(symbol, name, "page", path)
