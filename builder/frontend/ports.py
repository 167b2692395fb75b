"""EXPOSE's ports, as docker's nat package reads them. It also accepts ``run -p`` syntax, and ignores the host part."""

from __future__ import annotations

import ipaddress
import re

from builder.errors import InstructionError
from dockerfile_grammar.errors import shown

_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_HINT = "write PORT, FIRST-LAST, PORT/udp or PORT/sctp"
_PROTOCOLS = ("tcp", "udp", "sctp")
_LAST_PORT = 65535


def parse_port(text: str) -> list[str]:
    """``80-81/udp`` → ``["80/udp", "81/udp"]``; ``1.2.3.4:8080:80`` → ``["80/tcp"]``. Raises InstructionError."""
    host, _, container = text.rpartition(":")
    ports, _, protocol = container.partition("/")
    first, last = _range(ports, text)
    if (protocol or "tcp").lower() not in _PROTOCOLS:
        raise InstructionError(f"invalid protocol {protocol!r} in port {shown(text)!r}", hint="tcp, udp or sctp")
    address, _, host_ports = host.rpartition(":")
    if address and not _is_address(address):
        raise InstructionError(f"invalid address {address!r} in port {shown(text)!r}", hint=_HINT)
    if host_ports:
        host_first, host_last = _range(host_ports, text)
        if first != last and host_last - host_first != last - first:
            raise InstructionError(f"two ranges of different lengths in port {shown(text)!r}", hint=_HINT)
    return [f"{port}/{(protocol or 'tcp').lower()}" for port in range(first, last + 1)]


def _range(ports: str, text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(ports)
    if match is None:
        raise InstructionError(f"invalid port {shown(text)!r}", hint=_HINT)
    first, last = int(match[1]), int(match[2] or match[1])
    if last > _LAST_PORT or last < first:
        hint = f"ports go up to {_LAST_PORT}, the lower one first"
        raise InstructionError(f"invalid port range {shown(text)!r}", hint=hint)
    return first, last


def _is_address(text: str) -> bool:
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
