"""IP addresses as text and as the kernel's bytes. (The launcher and keepers import this: no ``ipaddress``.)"""

from __future__ import annotations

import _socket

from containers.errors import NetworkError

AF_INET, AF_INET6 = _socket.AF_INET, _socket.AF_INET6


def pack(text: str) -> bytes:
    """The 4 or 16 bytes of an address. Raises NetworkError."""
    try:
        return _socket.inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except OSError as error:
        raise NetworkError(f"{text!r} is no IP address") from error


def unpack(address: bytes) -> str:
    """As people write it."""
    return _socket.inet_ntop(family(address), address)


def family(address: bytes) -> int:
    """AF_INET or AF_INET6."""
    return AF_INET if len(address) == 4 else AF_INET6


def pack_prefix(text: str) -> tuple[bytes, int]:
    """``172.18.0.5/16``: address and prefix length. Raises NetworkError."""
    address, slash, length = text.partition("/")
    packed = pack(address)
    bits = int(length) if length.isdecimal() else -1
    if not slash or not 0 <= bits <= 8 * len(packed):
        raise NetworkError(f"{text!r} is no IP address with the length of its network", hint="write 172.18.0.5/16")
    return packed, bits


def network_of(address: bytes, prefix: int) -> bytes:
    """The address's network: the host's part is zero."""
    spare = 8 * len(address) - prefix
    return (int.from_bytes(address, "big") >> spare << spare).to_bytes(len(address), "big")


def pack_mac(text: str) -> bytes:
    """The 6 bytes of ``02:42:ac:12:00:05``. Raises NetworkError."""
    parts = text.split(":")
    try:
        packed = bytes(int(part, 16) for part in parts)
    except ValueError:
        packed = b""
    if len(packed) != 6 or packed[0] & 1:
        raise NetworkError(f"{text!r} is no MAC address of one machine", hint="write 02:42:ac:12:00:05")
    return packed


def mac_for(address: bytes) -> str:
    """The MAC address that an endpoint with this IPv4 address has: docker's choice, no two in one network."""
    return "02:42:" + address.hex(":")


def link_local(mac: bytes) -> bytes:
    """The IPv6 address that the kernel gives to an interface with this MAC address.  RFC 4291, appendix A"""
    return b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
