"""Which hosts may be connected to: any, from the host's own command line; public ones only, from a service's runs.

Every fetch of a run asks the same ``Reach``: files, repositories and their submodules, registries, their token services
and wherever these redirect to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Self, TypeAlias

from core.errors import HostNotFoundError, OutOfReachError

Resolve: TypeAlias = Callable[[str, int], Sequence[str]]
"""From a host's name and a port to its addresses. Raises OSError."""

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_ANSWER_S: Final = 2.0
_WEB_PORTS: Final = (443, 80)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


def look_up(host: str, port: int) -> list[str]:
    """The system's own ``Resolve``."""
    import socket  # 7 ms

    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Reach(NamedTuple):
    """Where connections may go.

    public_only: hosts with a private, link-local or other special address are refused, but for ``allowed``.
    allowed: HOST, or HOST:PORT, that the administrator named; whatever their addresses, and whatever is denied.
    denied: networks that are refused, also where they are public: ``10.0.0.0/8``. They count with ``public_only``.
    advice: what to do about a refusal, for the message.
    """

    public_only: bool = False
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    resolve: Resolve = look_up
    advice: str = ""

    def allowing(self, *locations: str) -> Self:
        """The same, and HOST[:PORT] of web addresses too; without a port those of https and http."""
        ends = [end for location in locations if location for end in _ends(location)]
        return self._replace(allowed=(*self.allowed, *ends))

    def pin(self, host: str, port: int) -> str | None:
        """The one address to connect to; None where the host's name is good enough.

        The name is looked up once, and what was checked is what is connected to: a name server cannot answer the
        check with one address and the connection with another. Raises OutOfReachError, HostNotFoundError.
        """
        if not self.public_only:
            return None
        try:
            addresses = [ipaddress.ip_address(text) for text in self.resolve(host, port)]
        except (OSError, UnicodeError) as error:  # a label of over 63 letters is a UnicodeError
            raise HostNotFoundError(f"cannot find the address of {host}: {error}") from error
        if not addresses:
            raise HostNotFoundError(f"{host} has no address")
        self._check(host, port, addresses)
        if len(addresses) > 1 and self.names(host, port):  # localhost, above all, has an address that nobody listens at
            return _answering([str(address) for address in addresses], port)
        return str(addresses[0])

    def names(self, host: str, port: int) -> bool:
        """Whether the host is let through by name: then its addresses need not be public."""
        name = host.lower().rstrip(".")
        return name in self.allowed or _end(name, port) in self.allowed

    def check_name(self, host: str, port: int) -> None:
        """Check a host that is reached through a proxy. The proxy looks names up by itself: it refuses those that we
        cannot find. Raises OutOfReachError.
        """
        if self.public_only:
            try:
                self.pin(host, port)
            except HostNotFoundError:
                return

    def _check(self, host: str, port: int, addresses: Sequence[_Address]) -> None:
        if self.names(host, port):
            return
        denied = [ipaddress.ip_network(network) for network in self.denied]
        for address in addresses:
            for meant in _meant(address):
                if not meant.is_global or meant.is_multicast:
                    what = "which is not a public one"
                elif any(meant in network for network in denied):
                    what = "which is in a network that is denied"
                else:
                    continue
                raise OutOfReachError(f"{host} has the address {address}, {what}", hint=self.advice or None)


ANYWHERE: Final = Reach()


def _answering(addresses: Sequence[str], port: int) -> str:
    """The first of them that takes a connection, else the first."""
    import socket

    for address in addresses:
        try:
            with socket.create_connection((address, port), _ANSWER_S):
                return address
        except OSError:
            continue
    return addresses[0]


def _meant(address: _Address) -> tuple[_Address, ...]:
    """The address, or the IPv4 addresses that one of IPv6 stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return (address,) if address.sixtofour is None else (address, address.sixtofour)


def _ends(location: str) -> tuple[str, ...]:
    """``host:port`` of HOST[:PORT], as ``Reach.allowed`` has them."""
    from urllib.parse import urlsplit

    parts = urlsplit(f"//{location}")
    name = (parts.hostname or location).rstrip(".")
    return tuple(_end(name, port) for port in ((parts.port,) if parts.port else _WEB_PORTS))


def _end(name: str, port: int) -> str:
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
