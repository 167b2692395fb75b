"""Networks."""

from __future__ import annotations

from typing import Any, Final

import flask

from dockerapi import answering, asking
from engine import subnets
from engine.engine import Engine
from engine.errors import ContainerNotFoundError

bp = flask.Blueprint("networks", __name__)

_ADDRESSES: Final = ("IPv4Address", "IPv6Address")
_MOST: Final = (1 << 64) - 1
"""Clients read 64 bits."""


@bp.get("/networks")
def listed() -> flask.Response:
    """Those that fit."""
    found = [{**each, "EnableIPv4": True} for each in asking.engine().networks.listed(asking.filters())]
    return answering.document(found, kind="networks")


@bp.get("/networks/<ref>")
def inspect(ref: str) -> flask.Response:
    """One, with the containers that are in it."""
    engine = asking.engine()
    found = {**engine.networks.inspect(ref), "EnableIPv4": True}
    found["Status"] = {"IPAM": {"Subnets": _use(found)}}
    found["Containers"] = {
        identity: place for identity, place in found["Containers"].items() if _is_running(engine, identity)
    }
    return answering.document(found, kind="network")


def _use(document: dict[str, Any]) -> dict[str, dict[str, int]]:
    """How many addresses of each subnet are in use, and left for containers."""
    pools = document["IPAM"]["Config"]
    taken = [place[kind].partition("/")[0] for place in document["Containers"].values() for kind in _ADDRESSES]
    for pool in pools:
        taken += [pool.get("Gateway", ""), *pool.get("AuxiliaryAddresses", {}).values()]
    found = {}
    for pool in pools:
        used, left = subnets.used_of(pool["Subnet"], pool.get("IPRange", ""), filter(None, taken))
        found[pool["Subnet"]] = {"IPsInUse": used, "DynamicIPsAvailable": min(left, _MOST)}
    return found


def _is_running(engine: Engine, identity: str) -> bool:
    """Docker lists those alone that have an address now."""
    try:
        return engine.state(identity).has_process
    except ContainerNotFoundError:
        return False


@bp.post("/networks/create")
def create() -> flask.Response:
    """Make one."""
    return answering.document(asking.engine().networks.create(asking.body()), 201)


@bp.delete("/networks/<ref>")
def remove(ref: str) -> flask.Response:
    """Remove one that no container is in."""
    asking.engine().remove_network(ref)
    return answering.nothing()


@bp.post("/networks/<ref>/connect")
def connect(ref: str) -> flask.Response:
    """Put a container into it."""
    body = asking.body()
    asking.engine().connect(ref, str(body.get("Container") or ""), body.get("EndpointConfig"))
    return flask.Response(status=200)


@bp.post("/networks/<ref>/disconnect")
def disconnect(ref: str) -> flask.Response:
    """Take a container out of it."""
    body = asking.body()
    asking.engine().disconnect(ref, str(body.get("Container") or ""), force=body.get("Force") is True)
    return flask.Response(status=200)


@bp.post("/networks/prune")
def prune() -> flask.Response:
    """Remove those that no container is in."""
    removed = asking.engine().prune_networks(asking.filters())
    return answering.document({"NetworksDeleted": removed or None})
