"""EXPOSE's ports, as docker's nat package reads them."""

from __future__ import annotations

import re

from builder.errors import InstructionError

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([A-Za-z]+))?")
_PROTOCOLS = ("tcp", "udp", "sctp")


def parse_port(text: str) -> list[str]:
    """``80``, ``80-90/udp`` → ``["80/tcp"]``, ``["80/udp", …]``. Raises InstructionError."""
    match = _PORT.fullmatch(text)
    if match is None:
        raise InstructionError(f"invalid port {text!r}", hint="write PORT, FIRST-LAST, PORT/udp or PORT/sctp")
    first, last = int(match[1]), int(match[2] or match[1])
    protocol = (match[3] or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise InstructionError(f"invalid protocol {match[3]!r} in port {text!r}", hint="tcp, udp or sctp")
    if last > 65535 or last < first:
        raise InstructionError(f"invalid port range {text!r}", hint="ports go up to 65535, the lower one first")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]
