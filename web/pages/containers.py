"""The containers, networks and volumes of the engine that SHIPLAP_ENGINE names.

They belong to no project: the service's roles count. Who may read everything sees them and their figures. What they
write, their commands and labels, and starting and stopping them, is for who may build; their files, their whole
document, a shell and removing them for administrators: an engine's containers may have secrets that nobody masks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from flask import Blueprint, Response, redirect, request

from core.errors import ShiplapError
from pipelines.accounts.roles import Rights
from web.backing import engine, service
from web.engines.client import EngineAwayError
from web.engines.documents import Container
from web.engines.engines import ContainerEngine
from web.engines.samples import Sample
from web.errors import NotFoundError
from web.guard import note, require
from web.pages.frame import fresh, page
from web.pages.strip import sparkline
from web.pages.trail import ContainerLink, own_registries

blueprint: Final = Blueprint("container_pages", __name__)

_SHOWN: Final = 200
_LINE: Final = 24
"""Samples that a line in a list has: two minutes."""

_CHIPS: Final[tuple[tuple[str, str, Callable[[Container], bool]], ...]] = (
    ("", "All", lambda _: True),
    ("running", "Running", lambda each: each.is_up),
    ("failing", "Failing health", lambda each: each.is_failing),
)
_DONE: Final = {
    "started": "It was started.", "stopped": "It was stopped.", "restarted": "It was started again.",
    "removed": "It was removed.",
}  # fmt: skip


class Row(msgspec.Struct, frozen=True):
    """A container in the list. cpu, memory: now; empty: it does not run, or is not known yet. *_line: of a drawing."""

    container: Container
    image_page: str
    cpu: float | None
    memory: int | None
    cpu_line: str
    memory_line: str


@blueprint.get("/containers")
@require("viewer")
def list_containers() -> Response:
    """All containers, those that need somebody first; for htmx, only the part that changes."""
    text, show = request.args.get("text", "").strip()[:200], request.args.get("show", "")
    image = request.args.get("image", "").strip()[:500]
    known = engine()
    if known is None:
        return page("containers.html", has_engine=False)
    away = ""
    every: Sequence[Container] = ()
    try:
        every = known.containers()
    except EngineAwayError as error:
        away = error.message
    wanted = text.casefold()
    found = [
        each
        for each in every
        if (wanted in each.name.casefold() or wanted in each.image.casefold() or wanted in each.project.casefold())
        and (not image or image in each.image)
    ]
    keeps = next((fits for name, _, fits in _CHIPS if name == show), _CHIPS[0][2])
    rows = _rows(known, [each for each in found if keeps(each)][:_SHOWN])
    shown: dict[str, Any] = {
        "has_engine": True,
        "away": away,
        "rows": rows,
        "hidden": sum(map(keeps, found)) - len(rows),
        "chips": [(name, label, sum(map(fits, found))) for name, label, fits in _CHIPS],
        "show": show,
        "text": text,
        "image": image,
        "query": urlencode({name: value for name, value in (("text", text), ("image", image)) if value}),
        "host": _host(known) if not away else "",
        "any": bool(every),
    }
    if request.headers.get("HX-Request"):
        return fresh("containers_table.html", (rows, shown["chips"], away), **shown)
    return page("containers.html", done=_DONE.get(request.args.get("done", ""), ""), **shown)


@blueprint.get("/networks")
@require("viewer")
def list_networks() -> Response:
    """All networks of the engine."""
    return _list_page("networks.html", lambda known: known.networks())


@blueprint.get("/volumes")
@require("viewer")
def list_volumes() -> Response:
    """All volumes of the engine."""
    return _list_page("volumes.html", lambda known: known.volumes())


@blueprint.post("/containers/<ref>/start")
@require("member")
def start(ref: str) -> Response:
    """Start it."""
    return _done(ref, "started", lambda known, identity: known.start(identity))


@blueprint.post("/containers/<ref>/stop")
@require("member")
def stop(ref: str) -> Response:
    """Stop it: its signal, ten seconds, SIGKILL."""
    return _done(ref, "stopped", lambda known, identity: known.stop(identity))


@blueprint.post("/containers/<ref>/restart")
@require("member")
def restart(ref: str) -> Response:
    """Stop it, and start it again."""
    return _done(ref, "restarted", lambda known, identity: known.restart(identity))


@blueprint.post("/containers/<ref>/remove")
@require("admin")
def remove(ref: str) -> Response:
    """Remove one that has ended."""
    return _done(ref, "removed", lambda known, identity: known.remove(identity))


def the_engine() -> ContainerEngine:
    """The engine. Raises NotFoundError where none was named."""
    found = engine()
    if found is None:
        raise NotFoundError(
            "these pages show no engine's containers", hint="shiplap serve --engine, or SHIPLAP_ENGINE=unix:///PATH"
        )
    return found


def image_page(image: str) -> str:
    """The page of a container's image, if it has a name in this service's registry; else ""."""
    host, _, rest = image.partition("/")
    if not rest or host not in own_registries():
        return ""
    repository, joint, reference = rest.partition("@")
    if not joint:
        repository, _, reference = rest.rpartition(":") if ":" in rest else (rest, "", "latest")
    return f"/images/{quote(repository)}/-/{quote(reference)}" if repository and reference else ""


def of_images(rights: Rights, images: Collection[str]) -> Sequence[ContainerLink]:
    """The containers of images, by the images' IDs, for the trail of other pages."""
    known = engine()
    if known is None or not rights.may_everywhere("read"):
        return ()
    return [
        ContainerLink(each.name, f"/containers/{each.short}", each.word, each.image_id)
        for each in known.lately()
        if each.image_id in images
    ]


def notice() -> str:
    """What was just done, for who did it."""
    return _DONE.get(request.args.get("done", ""), "")


def _rows(known: ContainerEngine, containers: Sequence[Container]) -> list[Row]:
    samples = known.samples.of(each.id for each in containers if each.state == "running")
    return [_row(each, samples.get(each.id, ())) for each in containers]


def _row(container: Container, samples: Sequence[Sample]) -> Row:
    recent = samples[-_LINE:]
    return Row(
        container,
        image_page(container.image),
        recent[-1].cpu if recent else None,
        recent[-1].memory if recent else None,
        sparkline([each.cpu for each in recent]),
        sparkline([float(each.memory) for each in recent]),
    )


def _host(known: ContainerEngine) -> str:
    try:
        return known.host()
    except ShiplapError:
        return ""


def _list_page(template: str, find: Callable[[ContainerEngine], Sequence[Any]]) -> Response:
    known = engine()
    if known is None:
        return page(template, has_engine=False)
    try:
        return page(template, has_engine=True, found=find(known), away="")
    except EngineAwayError as error:
        return page(template, has_engine=True, found=[], away=error.message)


def _done(ref: str, what: str, does: Callable[[ContainerEngine, str], None]) -> Response:
    known = the_engine()
    container = known.facts(ref).container
    does(known, container.id)
    verb = {"started": "start", "stopped": "stop", "restarted": "restart", "removed": "remove"}[what]
    note(service(), f"{verb} container", f"{container.name} ({container.short})")
    where = "/containers" if what == "removed" else f"/containers/{container.short}"
    answer = redirect(f"{where}?done={what}", 303)
    assert isinstance(answer, Response)
    return answer
