"""Ports as docker writes them: ``80/tcp``, ``53/udp``, ``8000-8010``."""

from __future__ import annotations

import re
from typing import Final

from engine.errors import InvalidRequestError

_PORT: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)


def check_port(text: str) -> tuple[int, int, str]:
    """First and last port, and protocol, of an exposed port. Raises InvalidRequestError."""
    match = _PORT.fullmatch(text)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if match is None or not 1 <= first <= last <= 65535:
        raise InvalidRequestError(f"invalid port: {text!r}", hint="as 80, 80/tcp, 53/udp or 8000-8010/tcp")
    return first, last, match[3] or "tcp"
