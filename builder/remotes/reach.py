"""Which hosts may be connected to: any, from a user's own machine; public ones only, from a service's."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from builder.errors import FetchError

Resolve: TypeAlias = Callable[[str, int], Sequence[str]]
"""From a host's name and a port to its addresses. Raises OSError."""


def look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Reach(msgspec.Struct, frozen=True):
    """public_only: hosts with a private, link-local or other special address are refused, but for allowed_hosts.

    advice: what to do about a refusal, for the message.
    """

    public_only: bool = False
    allowed_hosts: tuple[str, ...] = ()
    resolve: Resolve = look_up
    advice: str = ""

    def pin(self, host: str, port: int) -> str | None:
        """The one address to connect to; None where the host's name is good enough.

        The name is looked up once, and what was checked is what is connected to: a name server cannot answer the
        check with one address and the connection with another. Raises FetchError.
        """
        if not self.public_only:
            return None
        try:
            addresses = [ipaddress.ip_address(text) for text in self.resolve(host, port)]
        except OSError as error:
            raise FetchError(f"cannot find the address of {host}: {error}") from error
        if not addresses:
            raise FetchError(f"{host} has no address")
        if host not in self.allowed_hosts:
            for address in addresses:
                mapped = getattr(address, "ipv4_mapped", None) or address
                if not mapped.is_global or mapped.is_multicast:
                    raise FetchError(
                        f"{host} has the address {address}, which is not a public one", hint=self.advice or None
                    )
        return str(addresses[0])


ANYWHERE = Reach()
