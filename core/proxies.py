"""The address that a request comes from, behind reverse proxies: only trusted proxies are believed.

X-Forwarded-For grows at its end: the last address that is no trusted proxy's is the client's, and what stands before
it may be anybody's invention.  RFC 7239, 8.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias

from core.errors import SettingsError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """The proxies that may say who their client is. Immutable."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        """Take the proxies that are believed: addresses and networks. Raises SettingsError."""
        self._trusted = [_network(text) for text in trusted]

    def trusts(self, peer: str) -> bool:
        """Whether what ``peer`` says of its client counts."""
        address = parse_address(peer)
        return address is not None and any(address in network for network in self._trusted)

    def client(self, peer: str, forwarded_for: str) -> str:
        """The client's address. forwarded_for: the X-Forwarded-For headers, with commas between."""
        if not self.trusts(peer):
            return peer
        hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
        found = peer
        while hops and parse_address(hops[-1]) is not None:
            found = hops.pop()
            if not self.trusts(found):
                break
        return found


def parse_address(text: str) -> Address | None:
    """An IPv4 address also where IPv6 wraps it; None for what is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise SettingsError(
            f"SHIPLAP_TRUSTED_PROXIES has {text!r}", hint="write addresses or networks: 10.0.0.1,172.16.0.0/12"
        ) from error
