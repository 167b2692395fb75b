"""Which addresses networks and containers get: docker's pools, without what the host has routes to."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from engine.errors import InvalidRequestError

Subnet: TypeAlias = ipaddress.IPv4Network
Subnet6: TypeAlias = ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

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


def parsed6(text: str) -> Subnet6:
    """A subnet of IPv6 of a request. Raises InvalidRequestError."""
    try:
        found = ipaddress.IPv6Network(text)
    except ValueError as error:
        raise InvalidRequestError(f"invalid CIDR address: {text}: {error}") from error
    if found.prefixlen > 125:
        raise InvalidRequestError(f"invalid subnet {text}: it has no room for containers")
    if found.is_link_local or found.is_multicast or found.is_loopback:
        raise InvalidRequestError(f"invalid subnet {text}: its addresses are no machine's own")
    return found


def free6() -> Subnet6:
    """A subnet of IPv6 that nobody else has, as good as surely.  RFC 4193, section 3.2"""
    prefix = b"\xfd" + os.urandom(7)
    return ipaddress.IPv6Network((prefix + bytes(8), 64))


def used_of(subnet: str, part: str, taken: Iterable[str]) -> tuple[int, int]:
    """How many addresses of a subnet are in use, and how many of its range are left for containers.

    part: the range; "": all of it. taken: addresses of any subnet. The first and the last address of one of IPv4 count
    as in use, and the first of one of IPv6.
    """
    whole = ipaddress.ip_network(subnet)
    room = ipaddress.ip_network(part) if part else whole
    used: set[Address] = {whole[0], *(() if is_version6(subnet) else (whole[-1],))}
    used.update(each for each in map(ipaddress.ip_address, taken) if each in whole)
    return len(used), room.num_addresses - sum(each in room for each in used)


def is_version6(text: str) -> bool:
    """Whether an address or a subnet is of IPv6."""
    return ":" in text


def free(used: Iterable[str]) -> Subnet:
    """A subnet that no network has, and that the host has no route to. Raises InvalidRequestError."""
    taken = [ipaddress.IPv4Network(text) for text in used] + list(_routed())
    for candidate in _candidates():
        if not any(candidate.overlaps(other) for other in taken):
            return candidate
    raise InvalidRequestError("could not find an available, non-overlapping IPv4 address pool among the defaults")


def refuse_overlap(subnet: Subnet | Subnet6, used: Iterable[str]) -> None:
    """Raise InvalidRequestError where another network has a part of it. used: of the same version; "" is none."""
    if any(subnet.overlaps(type(subnet)(text)) for text in used if text):
        raise InvalidRequestError("Pool overlaps with other one on this address space")


def free_address(subnet: str, taken: Iterable[str], within: str = "") -> str:
    """The first address of a subnet that nobody has. within: a part of the subnet. Raises InvalidRequestError."""
    known = set(taken)
    whole, part = ipaddress.ip_network(subnet), ipaddress.ip_network(within or subnet)
    for host in part:
        if str(host) not in known and _is_a_machines(host, whole):
            return str(host)
    raise InvalidRequestError(
        f"no available IPv{whole.version} addresses on this network's address pool: {within or subnet}"
    )


def checked_range(text: str, subnet: str) -> str:
    """A part of a subnet that addresses are to be given out from. Raises InvalidRequestError."""
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidRequestError(f"invalid ip-range {text}: {error}") from error
    whole = ipaddress.ip_network(subnet)
    if found.version != whole.version or not found.subnet_of(whole):  # type: ignore[arg-type]
        raise InvalidRequestError(f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range")
    return str(found)


def checked_address(address: str, subnet: str) -> str:
    """An address that was asked for, as it is written elsewhere. Raises InvalidRequestError when it is not in the
    subnet, or stands for no single machine.
    """
    whole = ipaddress.ip_network(subnet)
    try:
        found = ipaddress.ip_address(address)
    except ValueError as error:
        raise InvalidRequestError(f"invalid IPv{whole.version} address: {address}") from error
    if found.version != whole.version:
        raise InvalidRequestError(f"invalid IPv{whole.version} address: {address}")
    if found not in whole:
        raise InvalidRequestError(f"no configured subnet contains IP address {address}")
    if not _is_a_machines(found, whole):
        raise InvalidRequestError(f"no machine can have the address {address} of {subnet}")
    return str(found)


def _is_a_machines(address: Address, whole: Subnet | Subnet6) -> bool:
    """Whether an address stands for a single machine."""
    return address != whole.network_address and (whole.version == 6 or address != whole.broadcast_address)


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
