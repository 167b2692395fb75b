"""STOPSIGNAL's values."""

from __future__ import annotations

import re
import signal

from builder.errors import InstructionError
from core.suggestions import suggestion

_NUMBER = re.compile(r"[+-]?[0-9]{1,9}")
_REAL_TIME = re.compile(r"RTMIN(?:\+(?:[1-9]|1[0-5]))?|RTMAX(?:-(?:[1-9]|1[0-4]))?")
_OTHER_NAMES = (
    "CLD",
    "IOT",
    "POLL",
    "STKFLT",
)  # Linux has them; Python knows them under another name, or not everywhere


def check_signal(text: str) -> None:
    """Accept a name, with or without ``SIG``, ``RTMIN+n``, ``RTMAX-n``, or a number: as docker, any but 0.

    Raises InstructionError.
    """
    if _NUMBER.fullmatch(text):
        if int(text) == 0:
            raise InstructionError(f"invalid signal number {text}", hint="signals go from 1 to 64")
        return
    name = text.upper().removeprefix("SIG")
    names = {member.name.removeprefix("SIG") for member in signal.Signals} | {*_OTHER_NAMES}
    if name in names or _REAL_TIME.fullmatch(name):
        return
    raise InstructionError(f"unknown signal {text!r}", hint=suggestion(name, sorted(names), form="SIG{}"))
