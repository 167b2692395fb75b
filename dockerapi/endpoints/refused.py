"""What docker has and this engine does not do: refused by name, as docker refuses it where it can."""

from __future__ import annotations

import flask

from dockerapi import answering
from dockerapi.errors import ApiError, not_done

bp = flask.Blueprint("refused", __name__)

_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm'
    " and try again."
)
_METHODS = ["GET", "POST", "PUT", "DELETE"]


@bp.get("/plugins")
def plugins() -> flask.Response:
    """There are none, and many clients ask."""
    return answering.document([])


@bp.get("/plugins/<path:name>/json")
def no_plugin(name: str) -> flask.Response:
    """Clients that look for anything by a name look here last."""
    raise ApiError(404, f'plugin "{name}" not found')


@bp.route("/plugins/<path:_rest>", methods=_METHODS)
def plugin(_rest: str) -> flask.Response:
    """No code of others runs as root."""
    raise not_done("plugins are not done: no code of others runs in the engine")


@bp.route("/swarm", methods=_METHODS)
@bp.route("/swarm/<path:_rest>", methods=_METHODS)
@bp.route("/nodes", methods=_METHODS)
@bp.route("/nodes/<path:_rest>", methods=_METHODS)
@bp.route("/services", methods=_METHODS)
@bp.route("/services/<path:_rest>", methods=_METHODS)
@bp.route("/tasks", methods=_METHODS)
@bp.route("/tasks/<path:_rest>", methods=_METHODS)
@bp.route("/secrets", methods=_METHODS)
@bp.route("/secrets/<path:_rest>", methods=_METHODS)
@bp.route("/configs", methods=_METHODS)
@bp.route("/configs/<path:_rest>", methods=_METHODS)
def swarm(_rest: str = "") -> flask.Response:
    """As a dockerd that is in no swarm."""
    if _rest in ("init", "join") and flask.request.path.startswith("/swarm/"):
        raise not_done("swarms are not done")
    raise ApiError(503, _NO_SWARM)


@bp.post("/build/cancel")
def build() -> flask.Response:
    """Of docker's classic builder before BuildKit's protocol: a build ends with its client."""
    raise not_done("a build is cancelled by ending its client")


@bp.route("/containers/<_ref>/checkpoints", methods=_METHODS)
@bp.route("/containers/<_ref>/checkpoints/<_rest>", methods=_METHODS)
def checkpoints(_ref: str, _rest: str = "") -> flask.Response:
    """No state of processes is kept."""
    raise not_done("checkpoints are not done")


@bp.get("/images/search")
def search() -> flask.Response:
    """Docker Hub's search is no part of the distribution protocol."""
    raise ApiError(404, "a search is not done: registries have no protocol for one")


@bp.put("/volumes/<_name>")
def update_volume(_name: str) -> flask.Response:
    """Of cluster volumes only."""
    raise ApiError(503, _NO_SWARM)
