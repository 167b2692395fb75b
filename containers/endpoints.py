"""What the switch is told: networks, the endpoints of containers in them, and published ports.

Plain classes: keepers import this, and ``dataclasses`` would make each of them start later.
"""

from __future__ import annotations

from _blake2 import blake2b

_DIGITS = 12  # of a name that the kernel bounds to 15 bytes


class Network:
    """One bridge of the switch.

    id: unlike any other network's; at least 12 characters, which hold for ever.
    subnet: ``172.18.0.0/16``, or None for IPv6 alone.
    gateway: the switch's own address in it, or None.
    subnet6: ``fd…/64`` or None.
    gateway6: the switch's own address in it, or None.
    internal: no way out of it, no published ports.
    """

    __slots__ = ("gateway", "gateway6", "id", "internal", "subnet", "subnet6")

    def __init__(
        self,
        id: str,  # noqa: A002 - what it is called everywhere
        subnet: str | None,
        gateway: str | None,
        *,
        subnet6: str | None = None,
        gateway6: str | None = None,
        internal: bool = False,
    ) -> None:
        self.id = id
        self.subnet = subnet
        self.gateway = gateway
        self.subnet6 = subnet6
        self.gateway6 = gateway6
        self.internal = internal

    @property
    def bridge(self) -> str:
        """The name of its bridge."""
        return bridge_of(self.id)


class Endpoint:
    """A container's place in a network.

    container: the container's ID.
    network: the network's ID.
    interface: what it is called inside: ``eth0``.
    mac: ``02:42:ac:12:00:05``.
    ipv4: ``172.18.0.5/16`` or None.
    ipv6: ``fd…::5/64`` or None.
    gateway: the way out that goes by this endpoint; None when another endpoint, or nothing, has the default route.
    gateway6: the same for IPv6.
    aliases: names of the container in this network beside its own; for the name server only.
    host_gateway: whether the container may reach the host, at ``switchrules.HOST_GATEWAY``.
    """

    __slots__ = (
        "aliases", "container", "gateway", "gateway6", "host_gateway", "interface", "ipv4", "ipv6", "mac", "network",
    )  # fmt: skip

    def __init__(
        self,
        container: str,
        network: str,
        interface: str,
        mac: str,
        ipv4: str | None,
        ipv6: str | None = None,
        *,
        gateway: str | None = None,
        gateway6: str | None = None,
        aliases: tuple[str, ...] = (),
        host_gateway: bool = False,
    ) -> None:
        self.container = container
        self.network = network
        self.interface = interface
        self.mac = mac
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.gateway = gateway
        self.gateway6 = gateway6
        self.aliases = aliases
        self.host_gateway = host_gateway

    @property
    def port(self) -> str:
        """The name of the switch's end, of all that its rules depend on: another address is another port."""
        whole = "\0".join((self.container, self.network, self.mac, self.ipv4 or "", self.ipv6 or ""))
        return "v-" + blake2b(whole.encode(), digest_size=_DIGITS // 2).hexdigest()


class Publication:
    """A port that other containers reach at the host's and the gateways' addresses, and the container behind it.

    address: the address it is published at; ``0.0.0.0`` and ``::`` are all of the host's and all gateways.
    protocol: ``tcp`` or ``udp``.
    """

    __slots__ = ("address", "port", "protocol", "to_address", "to_port")

    def __init__(self, address: str, protocol: str, port: int, to_address: str, to_port: int) -> None:
        self.address = address
        self.protocol = protocol
        self.port = port
        self.to_address = to_address
        self.to_port = to_port


def bridge_of(network: str) -> str:
    """The name of the bridge of the network with this ID."""
    return "b-" + blake2b(network.encode(), digest_size=_DIGITS // 2).hexdigest()


def mac_of(network: str) -> bytes:
    """The MAC address of the bridge of the network with this ID: the same for as long as there is the network."""
    return b"\x02" + blake2b(network.encode(), digest_size=5, person=b"mac").digest()
