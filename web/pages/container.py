"""One container: its facts and its log, its files, its figures, its whole document."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec
from flask import Blueprint, Response, g, request

from pipelines.accounts.users import User
from pipelines.errors import InvalidRequestError
from registry.server.listening.vouching import vouch
from web.backing import hub, service
from web.engines.client import reference
from web.engines.documents import Change, Facts
from web.engines.engines import ContainerEngine
from web.engines.lines import Moment
from web.engines.samples import Sample
from web.errors import NotFoundError
from web.guard import note, require
from web.pages.containers import image_page, notice, the_engine
from web.pages.frame import fresh, number_argument, page
from web.pages.run_log import ShownLog
from web.pages.strip import sparkline
from web.pages.trail import trail_of_container
from web.pages.words import epoch

blueprint: Final = Blueprint("one_container_pages", __name__)

_LINES: Final = 2000
_SPANS: Final[dict[str, int]] = {"": _LINES, "20000": 20_000, "all": 0}
_MOST_LINES: Final = 10_000
_MOST_NODES: Final = 2000
_ASK_AGAIN_S: Final = 10.0
_MOST_TEXT: Final = 1000
_MOST_PATH: Final = 4096
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+", re.ASCII)


class Node(msgspec.Struct, frozen=True):
    """Something in a directory that the container changed, or that has changed things in it (their count)."""

    name: str
    path: str
    kind: str
    count: int


@blueprint.get("/containers/<ref>")
@require("viewer")
def show(ref: str) -> Response:
    """What it is, and what it wrote last; for htmx, only the head."""
    known = the_engine()
    facts = known.facts(ref)
    if request.headers.get("HX-Request"):
        return fresh("container_head.html", facts, **_head(facts, "log"))
    span = request.args.get("lines", "")
    if span not in _SPANS:
        raise InvalidRequestError(f"lines={span[:40]!r} is none of the spans", hint="20000 or all")
    log = _shown_log(known, facts, span) if g.rights.may_everywhere("build") else None
    return page("container.html", log=log, span=span, done=notice(), **_head(facts, "log"))


@blueprint.get("/containers/<ref>/files")
@require("admin")
def show_files(ref: str) -> Response:
    """What it changed in its image's files, directory by directory."""
    known = the_engine()
    facts = known.facts(ref)
    path = _directory(request.args.get("path", "/"))
    changes = known.changes(facts.container.id)
    nodes = nodes_of(changes, path)
    shown = {
        "path": path,
        "parts": _parts(path),
        "nodes": nodes[:_MOST_NODES],
        "hidden": max(0, len(nodes) - _MOST_NODES),
        "count": len(changes),
    }
    return page("container_files.html", **shown, **_head(facts, "files"))


@blueprint.get("/containers/<ref>/files/tar")
@require("admin")
def save_files(ref: str) -> Response:
    """A file or directory of it, as a tar."""
    known = the_engine()
    container = known.facts(ref).container
    path = _directory(request.args.get("path", "/"))
    making = known.tar(container.id, path)
    stream = making.__enter__()

    def pieces() -> Iterator[bytes]:
        try:
            yield from stream.pieces()
        finally:
            making.__exit__(None, None, None)

    note(service(), "save files of container", f"{container.name} ({container.short})", path)
    name = _UNSAFE.sub("-", f"{container.name}{path}").strip("-.") or "files"
    return Response(
        pieces(),
        content_type="application/x-tar",
        headers={"Content-Disposition": f'attachment; filename="{name[:150]}.tar"'},
    )


@blueprint.get("/containers/<ref>/stats")
@require("viewer")
def show_stats(ref: str) -> Response:
    """Its processors, memory and networks over the last minutes."""
    known = the_engine()
    facts = known.facts(ref)
    samples: Sequence[Sample] = ()
    if facts.container.state == "running":
        samples = known.samples.of([facts.container.id])[facts.container.id]
    shown = {"figures": _figures(samples), "now_known": samples[-1] if samples else None, **_head(facts, "stats")}
    if request.headers.get("HX-Request"):
        return fresh("container_figures.html", (samples, facts.container.state), **shown)
    return page("container_stats.html", **shown)


@blueprint.get("/containers/<ref>/inspect")
@require("admin")
def inspect(ref: str) -> Response:
    """All that the engine says of it, its environment, too."""
    known = the_engine()
    document = known.document(ref)
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return page("container_inspect.html", text=text, **_head(known.facts(ref), "inspect"))


@blueprint.get("/containers/<ref>/since/<moment>/log")
@require("member")
def read_log(ref: str, moment: str) -> Response:
    """Lines of its log by their numbers, as JSON: as the API has those of jobs."""
    first = max(1, number_argument("first") or 1)
    limit = min(_MOST_LINES, number_argument("limit") or _MOST_LINES)
    lines = the_engine().logs.read(reference(ref), _moment(moment), first, limit)
    return _json({"lines": lines, "next": lines[-1].n + 1 if len(lines) == limit else None})


@blueprint.get("/containers/<ref>/since/<moment>/log/marks")
@require("member")
def mark_log(ref: str, moment: str) -> Response:
    """What stands out in its log behind a line, as JSON."""
    return _json(the_engine().logs.marks(reference(ref), _moment(moment), number_argument("after") or 0))


@blueprint.get("/containers/<ref>/since/<moment>/log/matches")
@require("member")
def find_in_log(ref: str, moment: str) -> Response:
    """The numbers of all lines that contain a text, as JSON."""
    text = request.args.get("text", "")[:_MOST_TEXT]
    if not text:
        raise InvalidRequestError("there is no text to look for")
    return _json({"lines": the_engine().logs.matches(reference(ref), _moment(moment), text)})


@blueprint.get("/containers/<ref>/since/<moment>/log/text")
@require("member")
def save_log(ref: str, moment: str) -> Response:
    """What it wrote, as plain text."""
    reading = the_engine().logs.text(reference(ref), _moment(moment))
    written = reading.__enter__()

    def pieces() -> Iterator[bytes]:
        try:
            yield from written
        finally:
            reading.__exit__(None, None, None)

    return Response(pieces(), content_type="text/plain; charset=utf-8")


@blueprint.get("/containers/<ref>/since/<moment>/events")
@require("member")
def follow_log(ref: str, moment: str) -> Response:
    """Lines as they are written, as server-sent events."""
    last = request.headers.get("Last-Event-ID", "")
    after = int(last) if last.isascii() and last.isdigit() and len(last) < 17 else number_argument("after") or 0
    user: User = g.user
    users, streams, known = service().roles, hub(), the_engine()
    asked_at = time.monotonic()

    def is_over() -> bool:
        nonlocal asked_at
        if time.monotonic() - asked_at >= _ASK_AGAIN_S:
            asked_at = time.monotonic()
            if not users.now(user.name, None).may_everywhere("build"):
                return True
        return streams.stopping

    events = known.logs.events(reference(ref), _moment(moment), after, is_over)
    first = next(events)  # an error is answered as one
    vouch()
    response = Response(itertools.chain([first], events), content_type="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _shown_log(known: ContainerEngine, facts: Facts, span: str) -> ShownLog:
    container, last = facts.container, _SPANS[span]
    begin = known.logs.begin(container.id, last)
    api = f"/containers/{container.short}/since/{begin.at_ns}"
    return ShownLog(
        api=api,
        pages=api,
        address=f"/containers/{container.short}" + (f"?lines={span}" if span else ""),
        lines=known.logs.count(container.short, begin) if last == _LINES else 0,
        is_live=container.is_up,
        failed=None,
        file=f"{container.name}.log",
        began=epoch(facts.started) or 0.0,
        ended="The container has ended",
    )


def _head(facts: Facts, tab: str) -> dict[str, Any]:
    container = facts.container
    path = f"/containers/{container.short}"
    return {
        "facts": facts,
        "container": container,
        "image_page": image_page(container.image),
        "chips": trail_of_container(container.image_id, container.name, path),
        "tab": tab,
    }


def nodes_of(changes: Sequence[Change], path: str) -> list[Node]:
    """What is in a directory of what was changed: directories first, by name. path: ends with a slash."""
    own: dict[str, str] = {}
    below: dict[str, int] = {}
    for change in changes:
        if not change.path.startswith(path):
            continue
        name, slash, _ = change.path[len(path) :].partition("/")
        if slash:
            below[name] = below.get(name, 0) + 1
        elif name:
            own[name] = change.kind
    nodes = [Node(name, f"{path}{name}", own.get(name, ""), below.get(name, 0)) for name in {**below, **own}]
    return sorted(nodes, key=lambda node: (not node.count, node.name))


def _figures(samples: Sequence[Sample]) -> list[tuple[str, str, str]]:
    """Names, values now and lines of what is drawn."""
    pairs = list(itertools.pairwise(samples))
    received = [_rate(one.at - before.at, one.received - before.received) for before, one in pairs]
    sent = [_rate(one.at - before.at, one.sent - before.sent) for before, one in pairs]
    last = samples[-1] if samples else None
    return [
        ("Processors", "cpu", sparkline([each.cpu for each in samples])),
        ("Memory", "memory", sparkline([float(each.memory) for each in samples])),
        ("Received a second", _last(received), sparkline(received)),
        ("Sent a second", _last(sent), sparkline(sent)),
        ("Processes", str(last.processes) if last else "", sparkline([float(each.processes) for each in samples])),
    ]


def _rate(passed_s: float, count: int) -> float | None:
    """How many a second; None: nobody knows, for it began anew."""
    return count / passed_s if passed_s > 0 and count >= 0 else None


def _last(values: Sequence[float | None]) -> str:
    return "" if not values or values[-1] is None else str(round(values[-1]))


def _directory(path: str) -> str:
    """An absolute path from an address. Raises NotFoundError for what is none."""
    parts = path.split("/")
    if parts[0] or len(path) > _MOST_PATH or "\0" in path or "." in parts or ".." in parts:
        raise NotFoundError(f"{path[:100]!r} is no path in a container", hint="it begins with a slash, and has no '..'")
    return path


def _parts(path: str) -> list[tuple[str, str]]:
    """The directories above, with their addresses."""
    found, at = [], "/"
    for name in path.strip("/").split("/"):
        if name:
            at += f"{name}/"
            found.append((name, quote(at)))
    return found


def _moment(text: str) -> Moment:
    found = Moment.parse(text)
    if found is None:
        raise NotFoundError(
            f"{text[:40]!r} is no moment", hint="it is in nanoseconds since the epoch; 0 is the beginning"
        )
    return found


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), mimetype="application/json")
