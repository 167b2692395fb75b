"""Containers: made, listed, looked at, started, ended, changed, removed."""

from __future__ import annotations

from typing import Any

import flask

from core.errors import ShiplapError
from dockerapi import answering, asking, audit
from dockerapi.errors import bad, not_done, of_create
from dockerapi.versions import has
from engine.changes import NUMBERS
from engine.fields import Fields

bp = flask.Blueprint("containers", __name__)


@bp.get("/containers/json")
def listed() -> flask.Response:
    """Those that run, or all that fit."""
    found = asking.engine().containers(
        every=asking.flag("all"),
        filters=asking.filters(),
        limit=asking.number("limit") or 0,
        sizes=asking.flag("size"),
    )
    return answering.document(found, kind="containers")


@bp.post("/containers/create")
def create() -> flask.Response:
    """Make one, of an image that is here: 404 says that the image is missing, and nothing else."""
    body = asking.body()
    audit.note_wanted(body)
    if not has("several-networks", asking.version()):
        names = Fields(body, "body").inner("NetworkingConfig").inner("EndpointsConfig").names()
        if len(names) > 1:
            raise bad(f"Container cannot be connected to network endpoints: {', '.join(names)}")
    try:
        made = asking.engine().create(asking.text("name") or None, body, platform=asking.platform())
    except ShiplapError as error:
        raise of_create(error) from error
    return answering.document({"Id": made.id, "Warnings": made.warnings}, 201)


@bp.get("/containers/<ref>/json")
def inspect(ref: str) -> flask.Response:
    """All about one."""
    engine = asking.engine()
    found = engine.inspect(ref, size=asking.flag("size"))
    found["ExecIDs"] = engine.keepers.running_execs(found["Id"]) or None
    if not has("aliases-as-asked", asking.version()):
        for name, place in found["NetworkSettings"]["Networks"].items():
            if name != "bridge" and place["NetworkID"]:
                place["Aliases"] = [*(place["Aliases"] or ()), found["Id"][:12]]
    return answering.document(found, kind="container")


@bp.post("/containers/<ref>/start")
def start(ref: str) -> flask.Response:
    """Start it: its command has begun when this is answered."""
    if asking.text("checkpoint"):
        raise not_done("checkpoints are not done")
    asking.engine().start(ref)
    return answering.nothing()


@bp.post("/containers/<ref>/stop")
def stop(ref: str) -> flask.Response:
    """End it by its stop signal, or by SIGKILL after its time."""
    asking.engine().stop(ref, timeout_s=asking.number("t"), signal=asking.text("signal") or None)
    return answering.nothing()


@bp.post("/containers/<ref>/restart")
def restart(ref: str) -> flask.Response:
    """End it, if it runs, and start it."""
    asking.engine().restart(ref, timeout_s=asking.number("t"), signal=asking.text("signal") or None)
    return answering.nothing()


@bp.post("/containers/<ref>/kill")
def kill(ref: str) -> flask.Response:
    """Send it a signal."""
    asking.engine().kill(ref, asking.text("signal") or "KILL")
    return answering.nothing()


@bp.post("/containers/<ref>/pause")
def pause(ref: str) -> flask.Response:
    """Freeze it."""
    asking.engine().pause(ref)
    return answering.nothing()


@bp.post("/containers/<ref>/unpause")
def unpause(ref: str) -> flask.Response:
    """Let it go on."""
    asking.engine().unpause(ref)
    return answering.nothing()


@bp.post("/containers/<ref>/rename")
def rename(ref: str) -> flask.Response:
    """Give it another name."""
    asking.engine().rename(ref, asking.text("name"))
    return answering.nothing()


@bp.post("/containers/<ref>/update")
def update(ref: str) -> flask.Response:
    """Change its limits and its restart policy."""
    warnings = asking.engine().update(ref, asking.body())
    return answering.document({"Warnings": warnings or None})


@bp.post("/containers/<ref>/resize")
def resize(ref: str) -> flask.Response:
    """Tell its terminal its size."""
    rows, columns = terminal_size()
    asking.engine().resize(ref, rows, columns)
    return flask.Response(status=200)


@bp.delete("/containers/<ref>")
def remove(ref: str) -> flask.Response:
    """Remove it. v: with its anonymous volumes."""
    if asking.flag("link"):
        raise not_done("links between containers are changed by making them anew")
    asking.engine().remove(ref, force=asking.flag("force"), volumes=asking.flag("v"))
    return answering.nothing()


@bp.post("/containers/prune")
def prune() -> flask.Response:
    """Remove all that do not run and fit."""
    removed, freed = asking.engine().prune_containers(asking.filters())
    return answering.document({"ContainersDeleted": removed or None, "SpaceReclaimed": freed})


@bp.get("/containers/<ref>/top")
def top(ref: str) -> flask.Response:
    """Its processes."""
    return answering.document(asking.engine().top(ref, asking.text("ps_args")))


@bp.get("/containers/<ref>/changes")
def changes(ref: str) -> flask.Response:
    """What it changed in its root file system."""
    found: list[dict[str, Any]] = [
        {"Path": change.path, "Kind": NUMBERS[change.kind]} for change in asking.engine().changes(ref)
    ]
    return answering.document(found or None)


def terminal_size() -> tuple[int, int]:
    """Rows and columns of the query. Raises ApiError."""
    rows, columns = asking.number("h"), asking.number("w")
    if rows is None or columns is None or not 0 <= rows <= 0xFFFF or not 0 <= columns <= 0xFFFF:
        raise bad("a terminal's size is h and w, each from 0 to 65535")
    return rows, columns
