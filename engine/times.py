"""Moments in nanoseconds since the epoch, and as docker's documents and options write them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

from engine.errors import InvalidRequestError

NEVER: Final = "0001-01-01T00:00:00Z"
"""Go's zero time: what has not happened."""

_SECOND: Final = 1_000_000_000
_TEXT: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d(?::\d\d)?)(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_SECONDS: Final = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?", re.ASCII)
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", re.ASCII)
_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}


def text_of(moment_ns: int) -> str:
    """RFC 3339 in UTC with as many digits as count, as Go's RFC3339Nano; 0 is ``NEVER``."""
    if not moment_ns:
        return NEVER
    seconds, fraction = divmod(moment_ns, _SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".") + "Z" if fraction else f"{text}Z"


def moment_of(text: str) -> int:
    """The moment of an RFC 3339 text; 0 for ``NEVER`` and for nothing. Raises InvalidRequestError."""
    if not text or text == NEVER:
        return 0
    match = _TEXT.fullmatch(text)
    if match is None:
        raise InvalidRequestError(f"invalid time: {text[:60]!r}", hint="as 2026-05-06T07:08:09Z, 1778051289 or 10m")
    day, clock, fraction, zone = match.groups()
    clock = clock or "00:00:00"
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}" + ("+00:00" if zone == "Z" else zone or ""))
        seconds = int((whole if zone else whole.astimezone()).timestamp())
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidRequestError(f"invalid time: {text[:60]!r}") from error
    return seconds * _SECOND + int((fraction or ".0")[1:].ljust(9, "0"))


def asked_moment(text: str, *, now_ns: int | None = None) -> int:
    """What a user means by --since or --until: seconds since the epoch, RFC 3339, or how long ago (``10m``, ``1h30m``).

    "" is 0. ``-10m`` is in ten minutes. Raises InvalidRequestError.
    """
    if not text or text == "0":
        return 0
    if match := _SECONDS.fullmatch(text):
        return int(match[1]) * _SECOND + int((match[2] or "0").ljust(9, "0"))
    ago = duration_ns(text.removeprefix("-"))
    if ago is not None:
        return (time.time_ns() if now_ns is None else now_ns) + (ago if text.startswith("-") else -ago)
    return moment_of(text)


def duration_ns(text: str) -> int | None:
    """A duration as Go writes it, in nanoseconds; None when it is none."""
    found = _DURATION.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text:
        return None
    return sum(round(float(number) * _UNITS[unit]) for number, unit in found)


def ago(seconds: float) -> str:
    """How long that is, as docker says it: ``About a minute``, ``3 hours``.  go-units HumanDuration"""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for bound, unit in ((48, 1), (24 * 7 * 2, 24), (24 * 30 * 2, 24 * 7), (24 * 365 * 2, 24 * 30)):
        if hours < bound:
            return f"{hours // unit} {_UNIT_NAMES[unit]}"
    return f"{int(seconds / 3600 / 24 / 365)} years"


_UNIT_NAMES: Final = {1: "hours", 24: "days", 24 * 7: "weeks", 24 * 30: "months"}
