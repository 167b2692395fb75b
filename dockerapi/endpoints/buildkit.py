"""BuildKit's two doors within HTTP: ``/grpc``, where clients ask, and ``/session``, where they are asked.

API 1.53 calls both deprecated: newer clients speak HTTP/2 on the socket itself (``dockerapi.server``).
"""

from __future__ import annotations

from typing import Final

import flask

from dockerapi import handover
from dockerapi.errors import bad
from dockerapi.upgrades import Upgrades

bp = flask.Blueprint("buildkit", __name__)

_PROTOCOL: Final = "h2c"
_SESSION_ID: Final = "X-Docker-Expose-Session-Uuid"


@bp.post("/grpc")
def grpc() -> flask.Response:
    """Serve calls of BuildKit's on this connection."""
    _check()
    peer = handover.peer()
    _upgrades().require_room(peer)
    taken = handover.take()
    _upgrades().serve(taken.switch(_PROTOCOL), taken.early, peer)
    return handover.gone()


@bp.post("/session")
def session() -> flask.Response:
    """Ask the client on this connection, for the time of its builds."""
    _check()
    if not flask.request.headers.get(_SESSION_ID):
        raise bad(f"a session needs an ID: {_SESSION_ID}")
    # Several headers of one name are one here, with commas between.
    headers = {name.lower(): value.split(",") for name, value in flask.request.headers.items()}
    peer = handover.peer()
    _upgrades().require_room(peer)
    taken = handover.take()
    _upgrades().offer(taken.switch(_PROTOCOL), taken.early, peer, headers)
    return handover.gone()


def _check() -> None:
    protocol = flask.request.headers.get("Upgrade", "")
    if not protocol:
        raise bad("no upgrade proto in request")
    if protocol != _PROTOCOL:
        raise bad(f"protocol {protocol[:100]} not supported")


def _upgrades() -> Upgrades:
    found: Upgrades = flask.current_app.extensions["upgrades"]
    return found
