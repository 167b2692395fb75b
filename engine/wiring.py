"""What a start needs of the switch: the container's networks, and a way out. And what its keeper is told of them
(``containers.keeper.wiring``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from containers.endpoints import Endpoint, Network
from containers.errors import NetworkError
from containers.switch import open_switch
from containers.switchway import ensure_way
from engine import spec
from engine.netconfig import environment_of
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


def port_of(place: EndpointRow, row: NetworkRow) -> Endpoint:
    """A container's place, as far as the switch has to know it to take it away."""
    ipv4, ipv6 = _addresses(place, row)
    return Endpoint(place.container, place.network, _interface(place), place.mac, ipv4, ipv6)


@contextlib.contextmanager
def ready(
    places: Places,
    records: Records,
    container: Row,
    document: Mapping[str, Any],
    denied: tuple[str, ...],
    uplink: str,
) -> Iterator[tuple[Any, list[int]]]:
    """Have the networks there that a container is in.

    Gives ``network`` for its ``spec.json``, and the descriptors that its keeper needs to start it.
    denied: networks that containers do not reach. uplink: as in ``core.settings``. Raises NetworkError.
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
                ensure_way(str(places.run), switch, uplink)
            answer: tuple[Any, list[int]] = told(places, records, container, document), [switch.netns]
        except (NetworkError, OSError):
            if _ports(document) or [rows[each.network].name for each in mine] != [DEFAULT]:
                raise
            answer = "default", []  # a network of its own, by pasta: it is alone there, and reaches the outside
        yield answer


def told(places: Places, records: Records, container: Row, document: Mapping[str, Any]) -> dict[str, Any]:
    """``network`` of the container's ``spec.json``."""
    rows = {row.id: row for row in records.networks()}
    mine = records.endpoints_of(container.id)
    host_gateway = bool(document.get("host_gateway"))
    outward = sorted(
        (each for each in mine if not rows[each.network].internal), key=lambda each: each.priority, reverse=True
    )
    by4 = next((each.network for each in outward), None)
    by6 = next((each.network for each in outward if each.ipv6), None)
    return {
        "endpoints": [
            _endpoint(
                each, rows[each.network], container, ways=(each.network == by4, each.network == by6), open=host_gateway
            )
            for each in mine
        ],
        "ports": _ports(document),
        "names": any(rows[each.network].name != DEFAULT for each in mine),
        "subnets": [subnet for row in rows.values() for subnet in (row.subnet, row.subnet6) if subnet],
        **document.get("resolver", {}),
        **_links(places, records, container, mine, rows),
    }


def _links(
    places: Places,
    records: Records,
    container: Row,
    mine: Sequence[EndpointRow],
    networks: Mapping[str, NetworkRow],
) -> dict[str, Any]:
    """What other containers are called here (``links``: alias to addresses), and what a link in the default network
    is beside that: a line of /etc/hosts, and variables. A container keeps its addresses for as long as it exists.
    """
    links: dict[str, list[str]] = {}
    hosts: list[list[str]] = []
    env: list[list[str]] = []
    for place in mine:
        for identity, alias in place.links:
            theirs = next((each for each in records.endpoints_of(identity) if each.network == place.network), None)
            if theirs is None:
                continue  # it was removed, or is in other networks
            links.setdefault(alias.lower(), []).extend(filter(None, (theirs.ipv4, theirs.ipv6)))
            if networks[place.network].name == DEFAULT:
                hosts.append([f"{alias} {identity[:12]} {records.container(identity).name}", theirs.ipv4])
                config = spec.read(places.container(identity))["asked"]
                env += map(list, environment_of(alias, container.name, theirs.ipv4, config))
    return {"links": links, "hosts": hosts, "env": env}


def told_of(records: Records, container: Row, document: Mapping[str, Any], place: EndpointRow) -> dict[str, Any]:
    """One more place, for a keeper whose container runs. It has no way out by it: it has one already."""
    rows = {row.id: row for row in records.networks()}
    host_gateway = bool(document.get("host_gateway"))
    return _endpoint(place, rows[place.network], container, ways=(False, False), open=host_gateway)


def _ports(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What it is to publish; nothing, where its last start found no switch."""
    network = document["network"]
    return list(network["ports"]) if isinstance(network, Mapping) else []


def _endpoint(
    place: EndpointRow,
    row: NetworkRow,
    container: Row,
    *,
    ways: tuple[bool, bool],
    open: bool,  # noqa: A002 - the host is
) -> dict[str, Any]:
    """A container's place in a network, as its keeper reads it.

    ways: whether the way out goes by this place, for IPv4 and IPv6.
    open: whether the host may be reached.
    """
    own_names = [container.name, container.id[:12], *place.aliases] if row.name != DEFAULT else []
    ipv4, ipv6 = _addresses(place, row)
    return {
        "network": row.id,
        "called": row.name,
        "interface": _interface(place),
        "mac": place.mac,
        "ipv4": ipv4,
        "ipv6": ipv6,
        "gateway": row.gateway if ways[0] else None,
        "gateway6": row.gateway6 if ways[1] else None,
        "aliases": list(place.aliases),
        "names": own_names,
        "internal": row.internal,
        "host_gateway": open,
    }


def _interface(place: EndpointRow) -> str:
    return f"eth{place.position}"


def _addresses(place: EndpointRow, row: NetworkRow) -> tuple[str, str | None]:
    """With the prefix length of the network."""
    ipv6 = f"{place.ipv6}/{row.subnet6.partition('/')[2]}" if place.ipv6 else None
    return f"{place.ipv4}/{row.subnet.partition('/')[2]}", ipv6
