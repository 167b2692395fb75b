"""Networks: bridges of the switch, with names. Their rows are in ``engine.db``; a container's place in one is, too.

``bridge`` is there from the first container that is in it. It has no names, as docker's. ``none`` and ``host`` are
listed, and nothing more is known of them.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from containers.addresses import mac_for, pack, pack_mac
from containers.errors import NetworkError
from core.smallhash import sha256
from engine import subnets
from engine.errors import (
    ConflictError,
    ContainerNotFoundError,
    InvalidRequestError,
    NetworkNotFoundError,
    NetworkRefusedError,
    NotDoneError,
)
from engine.fields import Fields
from engine.filters import checked, labels_match, text_matches
from engine.netconfig import Link
from engine.netconfig import links as read_links
from engine.records import EndpointRow, NetworkRow, Records, Row
from engine.times import asked_moment, text_of

DEFAULT: Final = "bridge"
_PREDEFINED: Final = ("bridge", "host", "none")
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_KNOWN: Final = ("dangling", "driver", "id", "label", "name", "scope", "type")
_WITH_NONE: Final = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
_PRUNABLE: Final = ("label", "label!", "until")
_MOST_PRIORITY: Final = (1 << 31) - 1


class WantedEndpoint(NamedTuple):
    """A place in a network that a container is to have.

    ipv4, ipv6, mac: those that were asked for; "" takes any.
    links: ID of another container, and what it is called here.
    priority: see ``EndpointRow``.
    """

    network: NetworkRow
    ipv4: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    ipv6: str = ""
    links: tuple[tuple[str, str], ...] = ()
    priority: int = 0

    @property
    def asked(self) -> dict[str, str]:
        """The addresses that were asked for, as docker's ``IPAMConfig``."""
        wanted = {"IPv4Address": self.ipv4, "IPv6Address": self.ipv6}
        return {name: address for name, address in wanted.items() if address}


class Networks:
    """The networks of one root. note: writes an event down: ID, what happened, attributes."""

    def __init__(self, records: Records, note: Callable[[str, str, dict[str, str]], None]) -> None:
        self._records = records
        self._note = note

    def found(self, ref: str) -> NetworkRow:
        """The network of this name or ID. Raises NetworkNotFoundError."""
        wanted = DEFAULT if ref == "default" else ref
        rows = self._records.networks()
        for row in rows:
            if wanted in (row.name, row.id):
                return row
        if wanted == DEFAULT:
            return self._made_default()
        begun = [row for row in rows if wanted and row.id.startswith(wanted)]
        if len(begun) == 1:
            return begun[0]
        raise NetworkNotFoundError(f"network {ref} not found")

    def create(self, body: Any) -> dict[str, Any]:
        """Make a network as docker's ``POST /networks/create`` asks. Raises InvalidRequestError, ConflictError."""
        asked = Fields(body, "body")
        name = asked.text("Name")
        if not _NAME.fullmatch(name):
            raise InvalidRequestError(f"invalid network name: {name!r}")
        if asked.text("Driver") not in ("", "bridge"):
            raise NotDoneError(f"networks of the driver {asked.text('Driver')} are not done; bridge is")
        if asked.flag("Ingress") or asked.flag("ConfigOnly") or asked.inner("ConfigFrom").text("Network"):
            raise NotDoneError("networks of swarms, and networks that only configure others, are not done")
        if asked.text("Scope") not in ("", "local"):
            raise NotDoneError(f"networks of the scope {asked.text('Scope')} are not done: one is of this machine")
        addresses = asked.inner("IPAM")
        if addresses.text("Driver") not in ("", "default") or addresses.pairs("Options"):
            raise NotDoneError("drivers that give out addresses, and their options, are not done")
        if name in _PREDEFINED:
            raise NetworkRefusedError(f"operation is not permitted on predefined {name} network ")
        row = self._made(name, asked)
        self._made_default()  # which has the first subnet, whoever comes first
        with self._records.transaction() as connection:
            self._add(connection, row)
        self._note(row.id, "create", {"name": name, "type": "bridge"})
        return {"Id": row.id, "Warning": ""}

    def listed(self, filters: Any = None) -> list[dict[str, Any]]:
        """As docker's ``GET /networks``."""
        wanted = checked(filters, _KNOWN)
        rows = self._records.networks()
        documents = [self._document(row) for row in rows]
        if not any(row.name == DEFAULT for row in rows):
            documents.append(_nameless(DEFAULT, "bridge"))
        documents += [_nameless("host", "host"), _nameless("none", "null")]
        return [document for document in documents if self._fits(document, wanted)]

    def inspect(self, ref: str) -> dict[str, Any]:
        """As docker's ``GET /networks/ID``, with the containers that are in it. Raises NetworkNotFoundError."""
        if ref in ("host", "none"):
            return _nameless(ref, "null" if ref == "none" else ref)
        row = self.found(ref)
        document = self._document(row)
        names = {container.id: container.name for container in self._records.containers()}
        document["Containers"] = {
            each.container: {
                "Name": names.get(each.container, ""),
                "EndpointID": "",
                "MacAddress": each.mac,
                "IPv4Address": f"{each.ipv4}/{row.subnet.partition('/')[2]}",
                "IPv6Address": f"{each.ipv6}/{row.subnet6.partition('/')[2]}" if each.ipv6 else "",
            }
            for each in self._records.endpoints_in(row.id)
        }
        return document

    def remove(self, ref: str) -> NetworkRow:
        """Remove a network that no container is in. Raises NetworkNotFoundError, ConflictError."""
        if ref in _PREDEFINED:
            raise NetworkRefusedError(f"{ref} is a pre-defined network and cannot be removed")
        row = self.found(ref)
        users = self._records.remove_network(row.id)
        if users:
            raise NetworkRefusedError(
                f"error while removing network: network {row.name} id {row.id} has active endpoints"
            )
        self._note(row.id, "destroy", {"name": row.name, "type": "bridge"})
        return row

    def prune(self, filters: Any = None) -> list[NetworkRow]:
        """Remove the networks that no container is in."""
        wanted = checked(filters, _PRUNABLE)
        bounds = [asked_moment(text) for text in wanted.get("until", ())]
        removed = []
        for row in self._records.networks():
            spared = any(labels_match([text], row.labels) for text in wanted.get("label!", ()))
            if row.name == DEFAULT or spared or not labels_match(wanted.get("label", ()), row.labels):
                continue
            if any(row.created_ns > bound for bound in bounds):
                continue
            if not self._records.remove_network(row.id):
                self._note(row.id, "destroy", {"name": row.name, "type": "bridge"})
                removed.append(row)
        return removed

    def wanted(self, body: Fields, mode: str, links: Sequence[Link] = ()) -> list[WantedEndpoint]:
        """The places in networks that a create body asks for; the network of its mode comes first.

        links: of the host config: for the network of the mode. Raises NetworkNotFoundError, InvalidRequestError.
        """
        settings = body.inner("NetworkingConfig").inner("EndpointsConfig")
        names = [mode, *(name for name in settings.names() if name != mode and {name, mode} != {"default", "bridge"})]
        found = []
        for name in names:
            called = ("bridge", "default") if name in ("bridge", "default") else (name,)
            own = next((each for each in called if settings.has(each)), name)
            found.append(self._wanted(self.found(name), settings.inner(own)))
        found[0] = found[0]._replace(links=(*found[0].links, *self._linked(links)))
        if (mac := body.text("MacAddress")) and not found[0].mac:
            found[0] = found[0]._replace(mac=_checked_mac(mac))
        return found

    def note(self, identity: str, action: str, container: str) -> None:
        """Write down that a container came into a network, or left it."""
        row = next((row for row in self._records.networks() if row.id == identity), None)
        if row is not None:
            self._note(identity, action, {"container": container, "name": row.name, "type": "bridge"})

    def place(self, container: Row, ref: str, settings: Fields) -> EndpointRow:
        """Give a container a place in one more network. Raises NetworkNotFoundError, ConflictError."""
        wanted = self._wanted(self.found(ref), settings)
        places = self._records.endpoints_of(container.id)
        if any(each.network == wanted.network.id for each in places):
            raise NetworkRefusedError(
                f"endpoint with name {container.name} already exists in network {wanted.network.name}"
            )
        if container.summary["network"] == "host" or container.summary["network"].startswith("container:"):
            raise ConflictError(
                "container sharing network namespace with another container or host cannot be connected to any other"
                " network"
            )
        if container.summary["network"] == "none":
            raise ConflictError(_WITH_NONE)
        with self._records.transaction() as connection:
            first = max((each.position for each in places), default=-1) + 1
            allocate(self._records, connection, container.id, [wanted], first)
            self._records.set_networks(connection, container, [*container.summary["networks"], wanted.network.name])
        return next(each for each in self._records.endpoints_of(container.id) if each.network == wanted.network.id)

    def take_away(self, container: Row, row: NetworkRow) -> None:
        """Take a container out of a network. Raises ConflictError when it is not in it."""
        if all(each.network != row.id for each in self._records.endpoints_of(container.id)):
            raise ConflictError(f"container {container.id} is not connected to network {row.name}")
        with self._records.transaction() as connection:
            connection.execute("DELETE FROM endpoints WHERE container = ? AND network = ?", (container.id, row.id))
            names = [name for name in container.summary["networks"] if name != row.name]
            self._records.set_networks(connection, container, names)

    def links_in_default(self, container: str) -> list[tuple[str, str]]:
        """The containers that one is linked to in the default network, by ID, and what they are called there."""
        default = next((each.id for each in self._records.networks() if each.name == DEFAULT), None)
        places = self._records.endpoints_of(container)
        return [link for place in places if place.network == default for link in place.links]

    def _wanted(self, row: NetworkRow, settings: Fields) -> WantedEndpoint:
        ipam = settings.inner("IPAMConfig")
        address, address6 = ipam.text("IPv4Address"), ipam.text("IPv6Address")
        if ipam.texts("LinkLocalIPs"):
            raise NotDoneError("--link-local-ip is refused: link-local addresses are the host's and its cloud's here")
        if settings.pairs("DriverOpts"):
            raise NotDoneError("options of a network's driver for one container are not done")
        if (address or address6) and row.name == DEFAULT:
            raise InvalidRequestError("user specified IP address is supported on user defined networks only")
        if address:
            address = subnets.checked_address(address, row.subnet)
        if address6:
            if not row.subnet6:
                raise InvalidRequestError(
                    f"invalid config for network {row.name}: no configured subnet contains IP address {address6}"
                )
            address6 = subnets.checked_address(address6, row.subnet6)
        aliases = tuple(settings.texts("Aliases"))
        if aliases and row.name == DEFAULT:
            raise InvalidRequestError("network-scoped alias is supported only for containers in user defined networks")
        linked = () if row.name == DEFAULT else self._linked(read_links(settings.texts("Links")))
        mac = settings.text("MacAddress")
        priority = settings.number("GwPriority")
        if abs(priority) > _MOST_PRIORITY:
            raise InvalidRequestError(f"gw-priority {priority} is beyond {_MOST_PRIORITY}")
        return WantedEndpoint(row, address, _checked_mac(mac) if mac else "", aliases, address6, linked, priority)

    def _linked(self, links: Sequence[Link]) -> tuple[tuple[str, str], ...]:
        """The containers that are linked to, by ID. Raises InvalidRequestError."""
        found = []
        for target, alias in links:
            try:
                found.append((self._records.container(target).id, alias))
            except ContainerNotFoundError as error:
                raise InvalidRequestError(f"could not get container for {target}: {error.message}") from error
        return tuple(found)

    def _made_default(self) -> NetworkRow:
        row = self._made(DEFAULT, Fields({}, "body"))
        with self._records.transaction() as connection:
            if (known := self._records.network_in(connection, DEFAULT)) is not None:
                return known
            self._add(connection, row)
        return self.found(DEFAULT)

    def _made(self, name: str, asked: Fields) -> NetworkRow:
        pools = [_pool(each) for each in asked.inner("IPAM").objects("Config")]
        pools4 = [pool for pool in pools if not subnets.is_version6(pool.subnet)]
        pools6 = [pool for pool in pools if subnets.is_version6(pool.subnet)]
        if len(pools4) > 1 or len(pools6) > 1:
            raise NotDoneError("networks of several subnets of a kind are not done")
        if pools6 and not asked.flag("EnableIPv6"):
            raise InvalidRequestError(
                f"invalid network config: {pools6[0].subnet} is a subnet of IPv6, and the network has none",
                hint="--ipv6",
            )
        pool4, pool6 = pools4[0] if pools4 else _Pool(), _Pool()
        if asked.flag("EnableIPv6"):
            pool6 = pools6[0] if pools6 else _Pool(str(subnets.free6()))
        return NetworkRow(
            os.urandom(32).hex(),
            name,
            time.time_ns(),
            pool4.subnet,
            pool4.chosen_gateway() if pool4.subnet else "",
            pool6.subnet,
            pool6.chosen_gateway() if pool6.subnet else "",
            asked.flag("Internal"),
            asked.pairs("Labels"),
            asked.pairs("Options"),
            pool4.range,
            pool6.range,
            {**pool4.auxiliary, **pool6.auxiliary},
        )

    def _add(self, connection: sqlite3.Connection, row: NetworkRow) -> None:
        if self._records.network_in(connection, row.name) is not None:
            raise ConflictError(f"network with name {row.name} already exists")
        used = [subnet for (subnet,) in connection.execute("SELECT subnet FROM networks")]
        if row.subnet:
            subnets.refuse_overlap(subnets.parsed(row.subnet), used)
        if row.subnet6:
            used6 = [subnet for (subnet,) in connection.execute("SELECT subnet6 FROM networks")]
            subnets.refuse_overlap(subnets.parsed6(row.subnet6), used6)
        subnet = row.subnet or str(subnets.free(used))
        gateway = row.gateway or subnets.free_address(subnet, ())
        self._records.insert_network(connection, row._replace(subnet=subnet, gateway=gateway))

    def _document(self, row: NetworkRow) -> dict[str, Any]:
        pools = [_pool_document(row.subnet, row.gateway, row.range, row.auxiliary)]
        if row.subnet6:
            pools.append(_pool_document(row.subnet6, row.gateway6, row.range6, row.auxiliary))
        return {
            **_nameless(row.name, "bridge"),
            "Id": row.id,
            "Created": text_of(row.created_ns),
            "EnableIPv6": bool(row.subnet6),
            "IPAM": {"Driver": "default", "Options": None, "Config": pools},
            "Internal": row.internal,
            "Options": row.options,
            "Labels": row.labels,
        }

    def _fits(self, document: dict[str, Any], wanted: dict[str, list[str]]) -> bool:
        if not text_matches(wanted.get("name", ()), document["Name"]):
            return False
        if not text_matches(wanted.get("id", ()), document["Id"]) or not labels_match(
            wanted.get("label", ()), document["Labels"]
        ):
            return False
        for name, value in (("driver", document["Driver"]), ("scope", "local")):
            if (values := wanted.get(name)) and value not in values:
                return False
        own = document["Name"] not in _PREDEFINED
        if (kinds := wanted.get("type")) and ("custom" if own else "builtin") not in kinds:
            return False
        dangling = wanted.get("dangling")
        if not dangling:
            return True
        unused = own and not self._records.endpoints_in(document["Id"])
        return (dangling[-1].lower() in ("1", "true")) == unused


def allocate(
    records: Records, connection: sqlite3.Connection, container: str, wanted: Sequence[WantedEndpoint], first: int = 0
) -> None:
    """Give a container its places, within a transaction. Raises ConflictError, InvalidRequestError.

    first: of their positions.
    """
    for position, each in enumerate(wanted, first):
        row = each.network
        if records.network_in(connection, row.name) is None:
            raise ConflictError(f"network {row.name} was removed a moment ago")
        rows = connection.execute("SELECT ipv4, ipv6 FROM endpoints WHERE network = ?", (row.id,)).fetchall()
        others = row.auxiliary.values()
        taken = {row.gateway, *others, *(found[0] for found in rows)}
        taken6 = {row.gateway6, *others, *(found[1] for found in rows)}
        if each.ipv4 in taken or (each.ipv6 and each.ipv6 in taken6):
            raise ConflictError("Address already in use")
        address = each.ipv4 or subnets.free_address(row.subnet, taken, row.range)
        address6 = each.ipv6 or (subnets.free_address(row.subnet6, taken6, row.range6) if row.subnet6 else "")
        mac = each.mac or mac_for(pack(address))
        place = EndpointRow(
            container, row.id, position, address, mac, each.aliases, address6, each.links, each.priority, each.asked
        )
        records.insert_endpoint(connection, place)


class _Pool(NamedTuple):
    """Addresses that a network is asked to have, checked; "" is what is to be chosen. See ``NetworkRow``."""

    subnet: str = ""
    gateway: str = ""
    range: str = ""
    auxiliary: dict[str, str] = {}  # noqa: RUF012 - nobody changes it

    def chosen_gateway(self) -> str:
        """The gateway; where none was asked for, the first address that is free."""
        return self.gateway or subnets.free_address(self.subnet, self.auxiliary.values(), self.range)


def _pool(asked: Fields) -> _Pool:
    """One of ``IPAM.Config``. Raises InvalidRequestError."""
    subnet, gateway, part = asked.text("Subnet"), asked.text("Gateway"), asked.text("IPRange")
    auxiliary = asked.pairs("AuxiliaryAddresses")
    if not subnet:
        for what, value in (("a gateway", gateway), ("an ip-range", part), ("an auxiliary address", auxiliary)):
            if value:
                raise InvalidRequestError(f"invalid ipam config: {what} without a subnet")
        return _Pool()
    subnet = str(subnets.parsed6(subnet) if subnets.is_version6(subnet) else subnets.parsed(subnet))
    gateway = subnets.checked_address(gateway, subnet) if gateway else ""
    others = {name: subnets.checked_address(address, subnet) for name, address in auxiliary.items()}
    if len({gateway, *others.values()}) <= len(others):
        raise ConflictError("Address already in use", hint="each auxiliary address, and the gateway, is another one")
    return _Pool(subnet, gateway, subnets.checked_range(part, subnet) if part else "", others)


def _pool_document(subnet: str, gateway: str, part: str, auxiliary: Mapping[str, str]) -> dict[str, Any]:
    version6 = subnets.is_version6(subnet)
    others = {name: address for name, address in auxiliary.items() if subnets.is_version6(address) == version6}
    document: dict[str, Any] = {"Subnet": subnet}
    if part:
        document["IPRange"] = part
    document["Gateway"] = gateway
    if others:
        document["AuxiliaryAddresses"] = others
    return document


def _checked_mac(text: str) -> str:
    try:
        return pack_mac(text).hex(":")
    except NetworkError as error:
        raise InvalidRequestError(f"invalid MAC address: {text}") from error


def _nameless(name: str, driver: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Id": sha256(name.encode()).hexdigest(),  # of those that have no row
        "Created": text_of(0),
        "Scope": "local",
        "Driver": driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": []},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {},
        "Options": {},
        "Labels": {},
    }
