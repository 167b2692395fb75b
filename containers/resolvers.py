"""The host's name servers, and how a container of the hub reaches them."""

from __future__ import annotations

from containers.addresses import pack
from containers.errors import NetworkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

DNS_FORWARD, DNS_FORWARD6 = "169.254.1.1", "fd53:6869:706c:6170::1"
"""Where pasta takes questions for the host's resolvers."""


def host_resolv_conf() -> str:
    """The host's own /etc/resolv.conf; empty when it has none."""
    return _read("/etc/resolv.conf")


def behind_resolved() -> str:
    """The resolv.conf that systemd-resolved has of others; empty when there is none."""
    return _read("/run/systemd/resolve/resolv.conf")


def all_nameservers(text: str) -> set[str]:
    """The addresses of a resolv.conf's name servers, IPv4 and IPv6, as it has them; not those of the loopback."""
    words = [line.split() for line in text.splitlines()]
    found = {line[1].partition("%")[0] for line in words if len(line) > 1 and line[0] == "nameserver"}
    return {text for text in found if _packed(text) and not text.startswith("127.") and text != "::1"}


def nameservers(text: str) -> set[bytes]:
    """The same, packed, and those of the loopback, too."""
    words = [line.split() for line in text.splitlines()]
    found = {_packed(line[1]) for line in words if len(line) > 1 and line[0] == "nameserver"}
    return {address for address in found if address is not None}


def resolv_conf(text: str, host: AbstractSet[bytes], forward: str = DNS_FORWARD) -> str:
    """The container's resolv.conf for the host's.

    host: its addresses. forward: how a resolver on the host itself is reached, and one that has a link's own address.
    """
    lines = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            line = f"nameserver {forward if _is_near(words[1], host) else words[1]}"
            if line in lines:
                continue
        lines.append(line)
    return "\n".join(lines) + "\n"


def within_reach(text: str, host: AbstractSet[bytes], *, size: int = 4) -> str | None:
    """A resolv.conf whose resolvers are not on the host: the host's own, or that behind systemd-resolved; or None.

    size: of the addresses in bytes; those of the other family do not count.
    """
    for found in (text, behind_resolved()):
        resolvers = {each for each in nameservers(found) if len(each) == size}
        if resolvers and not any(_is_local(each, host) for each in resolvers):
            return found
    return None


def _is_near(text: str, host: AbstractSet[bytes]) -> bool:
    address = _packed(text.partition("%")[0])
    return address is not None and (_is_local(address, host) or address[:2] == b"\xfe\x80")


def _is_local(address: bytes, host: AbstractSet[bytes]) -> bool:
    loopback = address[0] == 127 if len(address) == 4 else address == bytes(15) + b"\1"
    return loopback or address in host


def _packed(text: str) -> bytes | None:
    try:
        return pack(text)
    except NetworkError:
        return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
