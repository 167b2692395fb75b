"""Which addresses networks and containers get: docker's pools, without what the host has routes to."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from engine.errors import InvalidRequestError

Subnet: TypeAlias = ipaddress.IPv4Network

_POOLS: Final = (("172.17.0.0/12", 16), ("192.168.0.0/16", 20))
_FIRST: Final = ipaddress.IPv4Network("172.17.0.0/16")


def parsed(text: str) -> Subnet:
    """A subnet of a request. Raises InvalidRequestError."""
    try:
        found = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise InvalidRequestError(f"invalid CIDR address: {text}: {error}") from error
    if found.prefixlen > 29:
        raise InvalidRequestError(f"invalid subnet {text}: it has no room for containers")
    return found


def free(used: Iterable[str]) -> Subnet:
    """A subnet that no network has, and that the host has no route to. Raises InvalidRequestError."""
    taken = [ipaddress.IPv4Network(text) for text in used] + list(_routed())
    for candidate in _candidates():
        if not any(candidate.overlaps(other) for other in taken):
            return candidate
    raise InvalidRequestError("could not find an available, non-overlapping IPv4 address pool among the defaults")


def refuse_overlap(subnet: Subnet, used: Iterable[str]) -> None:
    """Raise InvalidRequestError where another network has a part of it."""
    if any(subnet.overlaps(ipaddress.IPv4Network(text)) for text in used):
        raise InvalidRequestError("invalid pool request: Pool overlaps with other one on this address space")


def free_address(subnet: str, taken: Iterable[str]) -> str:
    """The first address of a subnet that nobody has. Raises InvalidRequestError."""
    known = set(taken)
    for host in ipaddress.IPv4Network(subnet).hosts():
        if str(host) not in known:
            return str(host)
    raise InvalidRequestError(f"no available IPv4 addresses on this network's address pool: {subnet}")


def check_address(address: str, subnet: str) -> None:
    """Raise InvalidRequestError when an address that was asked for is not in the subnet."""
    try:
        inside = ipaddress.IPv4Address(address) in ipaddress.IPv4Network(subnet)
    except ValueError as error:
        raise InvalidRequestError(f"invalid IPv4 address: {address}") from error
    if not inside:
        raise InvalidRequestError(f"no configured subnet contains IP address {address}")


def _candidates() -> Iterator[Subnet]:
    for text, prefix in _POOLS:
        pool = ipaddress.IPv4Network(text, strict=False)
        yield from (each for each in pool.subnets(new_prefix=prefix) if each >= _FIRST)


def _routed() -> Iterator[Subnet]:
    """proc_pid_net(5), route"""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        address, mask = (int.from_bytes(int(fields[at], 16).to_bytes(4, "little")) for at in (1, 7))
        if mask:
            yield ipaddress.IPv4Network((address, mask.bit_count()), strict=False)
