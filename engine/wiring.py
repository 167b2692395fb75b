"""What a start needs of the switch: the container's networks, and a way out. And what its keeper is told of them
(``containers.keeper.wiring``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from containers.endpoints import Network
from containers.errors import NetworkError
from containers.switch import open_switch
from containers.switchway import ensure_way
from engine.networks import DEFAULT
from engine.places import Places
from engine.records import EndpointRow, NetworkRow, Records, Row


def network_of(row: NetworkRow) -> Network:
    """The bridge of a network."""
    return Network(
        row.id,
        row.subnet,
        row.gateway,
        subnet6=row.subnet6 or None,
        gateway6=row.gateway6 or None,
        internal=row.internal,
    )


@contextlib.contextmanager
def ready(
    places: Places, records: Records, container: Row, document: Mapping[str, Any], denied: tuple[str, ...]
) -> Iterator[tuple[Any, list[int]]]:
    """Have the networks there that a container is in.

    Gives ``network`` for its ``spec.json``, and the descriptors that its keeper needs to start it.
    denied: networks that containers do not reach. Raises NetworkError.
    """
    rows = {row.id: row for row in records.networks()}
    mine = records.endpoints_of(container.id)
    if not mine:
        yield document["network"], []
        return
    places.make()
    with contextlib.ExitStack() as stack:
        try:
            switch = stack.enter_context(open_switch(str(places.run), denied=denied))
            for endpoint in mine:
                switch.add_network(network_of(rows[endpoint.network]))
            if not all(rows[each.network].internal for each in mine):
                ensure_way(str(places.run), switch)
            answer: tuple[Any, list[int]] = told(records, container, document), [switch.netns]
        except (NetworkError, OSError):
            if _ports(document) or [rows[each.network].name for each in mine] != [DEFAULT]:
                raise
            answer = "default", []  # a network of its own, by pasta: it is alone there, and reaches the outside
        yield answer


def told(records: Records, container: Row, document: Mapping[str, Any]) -> dict[str, Any]:
    """``network`` of the container's ``spec.json``."""
    rows = {row.id: row for row in records.networks()}
    places = records.endpoints_of(container.id)
    way_out = next((each.network for each in places if not rows[each.network].internal), None)
    return {
        "endpoints": [
            _endpoint(each, rows[each.network], container, each.position, way_out=each.network == way_out)
            for each in places
        ],
        "ports": _ports(document),
        "names": any(rows[each.network].name != DEFAULT for each in places),
        "subnets": [row.subnet for row in rows.values()],
    }


def told_of(records: Records, container: Row, place: EndpointRow) -> dict[str, Any]:
    """One more place, for a keeper whose container runs. It has no way out by it: it has one already."""
    rows = {row.id: row for row in records.networks()}
    return _endpoint(place, rows[place.network], container, place.position, way_out=False)


def _ports(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What it is to publish; nothing, where its last start found no switch."""
    network = document["network"]
    return list(network["ports"]) if isinstance(network, Mapping) else []


def _endpoint(place: EndpointRow, row: NetworkRow, container: Row, number: int, *, way_out: bool) -> dict[str, Any]:
    own_names = [container.name, container.id[:12], *place.aliases] if row.name != DEFAULT else []
    return {
        "network": row.id,
        "called": row.name,
        "interface": f"eth{number}",
        "mac": place.mac,
        "ipv4": f"{place.ipv4}/{row.subnet.partition('/')[2]}",
        "ipv6": None,
        "gateway": row.gateway if way_out else None,
        "gateway6": None,
        "aliases": list(place.aliases),
        "names": own_names,
        "internal": row.internal,
        "host_gateway": False,
    }
