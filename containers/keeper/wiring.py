"""A container's place in the networks of the switch: interfaces, published ports, names. One for each keeper.

    bind ──▶ connect ──▶ open ──▶ cut ──▶ … connect again at the next start … ──▶ close
    listeners  interfaces  clients  all of it

Listeners come first, in the host's network: a port that is taken is refused before anything runs. They stay bound from
one start by a policy to the next.
"""

from __future__ import annotations

import os

from containers import netlink
from containers.endpoints import Endpoint, Publication
from containers.errors import NetworkError
from containers.interfaces import PASTA_TIMEOUT_MS, bound_sending
from containers.keeper import namefiles, names, ports
from containers.keeper.forwarding import Forwarder
from containers.netspaces import inside
from containers.resolvers import host_resolv_conf
from containers.switch import Switch
from containers.switchpin import is_opaque, read
from containers.switchway import entrance_mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from containers.keeper.loop import Loop


class Wiring:
    """switch: a descriptor of its network namespace, owned from here on. run: of the engine.

    container: its ID. wanted: ``network`` of the spec:
    endpoints: members of ``endpoints.Endpoint``; ``called``, the network's own name; ``names``, the container's in it;
        ``internal``.
    ports: members of ``ports.Asked``.
    servers: of names, asked from within the container's network, instead of the host's.
    search, options: for resolv.conf, instead of the host's.
    links: name to addresses: what other containers are called in this one alone.
    hosts, env: name and address, name and value, of links: for /etc/hosts, and for its processes.
    subnets: of all networks, for ``ports.Target``.
    """

    def __init__(self, loop: Loop, run: str, switch: int, container: str, wanted: dict[str, Any]) -> None:
        self._loop = loop
        self._run = run
        self._container = container
        self._wanted = wanted
        self._switch = Switch(switch, netlink.Netlink())
        self._there = ports.Elsewhere(self._switch.netns)
        self._ports = ports.Ports(loop, self._there.open)
        self._endpoints: dict[str, dict[str, Any]] = {each["network"]: each for each in wanted.get("endpoints", ())}
        self._names: names.Names | None = None
        self._netns = -1
        self._within: ports.Elsewhere | None = None
        self._published: list[Publication] = []

    @property
    def bound(self) -> list[dict[str, Any]]:
        """The published ports, with the numbers that the kernel chose."""
        return [
            {"address": address, "protocol": each.protocol, "port": each.port, "to_port": each.to_port}
            for each in self._ports.bound
            for address in each.addresses
        ]

    @property
    def addresses(self) -> list[str]:
        """The container's own addresses in its networks, without prefix length."""
        found = (_bare(each.get(name)) for each in self._endpoints.values() for name in ("ipv4", "ipv6"))
        return [address for address in found if address is not None]

    @property
    def networks(self) -> list[str]:
        """The IDs of its networks."""
        return list(self._endpoints)

    def resolv_conf(self) -> str:
        """The contents of the container's /etc/resolv.conf."""
        search, options = tuple(self._wanted.get("search") or ()), tuple(self._wanted.get("options") or ())
        return names.container_resolv_conf(host_resolv_conf(), search=search, options=options)

    def bind(self) -> None:
        """Listen at the published ports, unless that is done. Raises NetworkError."""
        if not self._ports.bound:
            self._ports.bind(
                ports.Asked(
                    tuple(each["addresses"]), each["protocol"], each["port"], each["to_port"], each.get("last", 0)
                )
                for each in self._wanted.get("ports") or ()
            )

    def connect(self, pid: int) -> None:
        """Give the network namespace of process ``pid`` its interfaces and its name server. Raises NetworkError."""
        try:
            self._netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            for each in self._endpoints.values():
                self._attach(each)
            tables = [namefiles.NameTable(self._run, network) for network in self._endpoints]
            links = self._wanted.get("links") or {}
            self._names = names.Names(self._loop, self._netns, tables, self._forwarder(), links)
        except OSError as error:
            raise NetworkError(f"cannot connect the container to its networks: {error}") from error

    def open(self) -> None:
        """The container runs: bring clients to it."""
        outward = next((each for each in self._endpoints.values() if not each.get("internal")), None)
        if outward is None:
            return
        ipv4, ipv6 = (_bare(outward.get(name)) for name in ("ipv4", "ipv6"))
        transparent = not is_opaque(f"{self._run}/switch")
        subnets = self._wanted.get("subnets") or ()
        for each in self._ports.bound:
            for address in each.addresses:
                to = ipv6 if ":" in address else ipv4
                if to is not None:
                    publication = Publication(address, each.protocol, each.port, to, each.to_port)
                    self._switch.publish(publication)
                    self._published.append(publication)
        mark = entrance_mark(self._run)
        self._ports.open(ports.Target(ipv4, ipv6, subnets, transparent=transparent, mark=mark))

    def cut(self) -> None:
        """The container has ended: take back all but the listeners."""
        self._ports.shut()
        published, self._published = self._published, []
        for publication in published:
            self._switch.withdraw(publication)
        if self._names is not None:
            self._names.close()
            self._names = None
        if self._within is not None:
            self._within.close()
            self._within = None
        for each in self._endpoints.values():
            self._detach(each)
        if self._netns >= 0:
            os.close(self._netns)
            self._netns = -1

    def add(self, endpoint: dict[str, Any]) -> None:
        """Connect a running container to another network. Raises NetworkError."""
        self._endpoints[endpoint["network"]] = endpoint
        if self._netns >= 0:
            try:
                self._attach(endpoint)
            except OSError as error:
                raise NetworkError(f"cannot connect the container to the network: {error}") from error
            self._update_names()

    def remove(self, network: str) -> None:
        """Take a running container out of a network. Raises NetworkError when it is not in it."""
        endpoint = self._endpoints.get(network)
        if endpoint is None:
            raise NetworkError(f"the container is not connected to the network {network[:12]}")
        if self._netns >= 0:
            self._detach(endpoint)
        del self._endpoints[network]
        self._update_names()

    def close(self) -> None:
        """Give everything back."""
        self.cut()
        self._ports.close()
        self._there.close()
        self._switch.close()

    def _attach(self, endpoint: dict[str, Any]) -> None:
        by_pasta = read(f"{self._run}/switch/way") == "pasta"
        least_ms = PASTA_TIMEOUT_MS if by_pasta else 0
        self._switch.attach(self._netns, self._endpoint(endpoint), least_timeout_ms=least_ms)
        if by_pasta:
            inside(self._netns, bound_sending)
        if endpoint.get("names"):
            addresses = [bare for bare in map(_bare, (endpoint.get("ipv4"), endpoint.get("ipv6"))) if bare is not None]
            called = endpoint.get("called", "")
            namefiles.add_names(
                self._run, endpoint["network"], self._container, endpoint["names"], addresses, called=called
            )

    def _detach(self, endpoint: dict[str, Any]) -> None:
        if endpoint.get("names"):
            namefiles.drop_names(self._run, endpoint["network"], self._container)
        self._switch.detach(self._endpoint(endpoint))

    def _update_names(self) -> None:
        if self._names is not None:
            self._names.tables = [namefiles.NameTable(self._run, network) for network in self._endpoints]

    def _forwarder(self) -> Forwarder | None:
        """Whom questions go to that no network answers; in internal networks alone there is nobody."""
        if all(each.get("internal") for each in self._endpoints.values()):
            return None
        servers = self._wanted.get("servers")
        if servers:
            self._within = ports.Elsewhere(self._netns)
            return Forwarder(self._loop, lambda: list(servers), self._within.open)
        return Forwarder(self._loop, names.HostResolvers(), ports.own_sockets)

    def _endpoint(self, fields: dict[str, Any]) -> Endpoint:
        return Endpoint(
            self._container,
            fields["network"],
            fields["interface"],
            fields["mac"],
            fields.get("ipv4"),
            fields.get("ipv6"),
            gateway=fields.get("gateway"),
            gateway6=fields.get("gateway6"),
            host_gateway=bool(fields.get("host_gateway")),
        )


def _bare(address: str | None) -> str | None:
    return address.partition("/")[0] if address else None
