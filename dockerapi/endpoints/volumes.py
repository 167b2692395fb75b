"""Volumes."""

from __future__ import annotations

import flask

from dockerapi import answering, asking
from dockerapi.versions import has

bp = flask.Blueprint("volumes", __name__)


@bp.get("/volumes")
def listed() -> flask.Response:
    """Those that fit."""
    return answering.document(asking.engine().volumes.listed(asking.filters()))


@bp.get("/volumes/<name>")
def inspect(name: str) -> flask.Response:
    """One."""
    return answering.document(asking.engine().volumes.inspect(name))


@bp.post("/volumes/create")
def create() -> flask.Response:
    """Make one; one that is there stays as it is."""
    return answering.document(asking.engine().volumes.create(asking.body()), 201)


@bp.delete("/volumes/<name>")
def remove(name: str) -> flask.Response:
    """Remove one that no container uses."""
    asking.engine().volumes.remove(name, force=asking.flag("force"))
    return answering.nothing()


@bp.post("/volumes/prune")
def prune() -> flask.Response:
    """Remove those that no container uses: without a name, or all of them."""
    filters = asking.filters() or {}
    if not has("anonymous-prune", asking.version()):
        filters = {**filters, "all": ["true"]}
    removed, freed = asking.engine().volumes.prune(filters)
    return answering.document({"VolumesDeleted": removed or None, "SpaceReclaimed": freed})
