"""STOPSIGNAL's values."""

from __future__ import annotations

import signal
from difflib import get_close_matches

from builder.errors import InstructionError

_LAST_SIGNAL = 64


def check_signal(text: str) -> None:
    """Accept a name, with or without ``SIG``, ``RTMIN+n``, or a number. Raises InstructionError."""
    if text.isdecimal():
        if 1 <= int(text) <= _LAST_SIGNAL:
            return
        raise InstructionError(f"invalid signal number {text}", hint=f"signals go from 1 to {_LAST_SIGNAL}")
    name = text.upper().removeprefix("SIG")
    names = {member.name.removeprefix("SIG") for member in signal.Signals}
    base, plus, offset = name.partition("+" if "+" in name else "-")
    real_time = base in ("RTMIN", "RTMAX") and (not plus or offset.isdecimal())
    if name not in names and not real_time:
        near = get_close_matches(name, names, 1)
        raise InstructionError(f"unknown signal {text!r}", hint=f"did you mean SIG{near[0]}?" if near else None)
