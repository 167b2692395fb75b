"""EXPOSE's ports, as docker's nat package reads them: what it takes for ``run -p`` too, without a use for the host."""

from __future__ import annotations

import re

from builder.errors import InstructionError

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([A-Za-z]+))?")
_HOST = re.compile(r"|(?:(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\]):)?(?:\d{1,5}(?:-\d{1,5})?)?")
_PROTOCOLS = ("tcp", "udp", "sctp")


def parse_port(text: str) -> list[str]:
    """``80-81/udp`` → ``["80/udp", "81/udp"]``; ``1.2.3.4:8080:80`` → ``["80/tcp"]``. Raises InstructionError."""
    host, _, container = text.rpartition(":")
    match = _PORT.fullmatch(container)
    if match is None or not _HOST.fullmatch(host):
        raise InstructionError(f"invalid port {text!r}", hint="write PORT, FIRST-LAST, PORT/udp or PORT/sctp")
    first, last = int(match[1]), int(match[2] or match[1])
    protocol = (match[3] or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise InstructionError(f"invalid protocol {match[3]!r} in port {text!r}", hint="tcp, udp or sctp")
    if last > 65535 or last < first:
        raise InstructionError(f"invalid port range {text!r}", hint="ports go up to 65535, the lower one first")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]
