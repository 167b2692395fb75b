"""Moments and durations as docker's command line takes them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

from cli.errors import CommandError

_STAMP: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:T(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9})\d*)?)?)?)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_SECONDS: Final = re.compile(r"(-?\d{1,12})(?:\.(\d{1,9})\d*)?", re.ASCII)
_BILLION: Final = 1_000_000_000


def moment_ns(text: str, option: str, *, now_ns: int | None = None) -> int:
    """Nanoseconds since the epoch of ``--since`` or ``--until``: ``10m`` ago, RFC 3339 or a part of it, or seconds.

    A time without a zone is the host's, as in docker. Raises CommandError.
    """
    from dockerfile_grammar.flags import parse_duration  # the grammar takes 15 ms to load

    ago = parse_duration(text)
    if ago is not None and text not in ("0", "-0", "+0"):
        return (time.time_ns() if now_ns is None else now_ns) - ago
    if seconds := _SECONDS.fullmatch(text):
        return int(seconds[1]) * _BILLION + int((seconds[2] or "").ljust(9, "0"))
    stamp = _STAMP.fullmatch(text)
    if stamp is None:
        raise CommandError(
            f'{option}: failed to parse value as time or duration: "{text}"',
            hint="write 10m, 2026-11-28T10:00:00, or seconds since 1970",
        )
    clock = ":".join(stamp[part] or "00" for part in ("hour", "minute", "second"))
    try:
        whole = datetime.fromisoformat(f"{stamp['day']}T{clock}{(stamp['zone'] or '').replace('Z', '+00:00')}")
        return int(whole.timestamp()) * _BILLION + int((stamp["fraction"] or "").ljust(9, "0"))
    except (ValueError, OverflowError) as error:
        raise CommandError(f"{option} {text!r}: {error}") from error


def duration_ns(text: str, option: str) -> int:
    """Nanoseconds of Go's ``1m30s``. Raises CommandError with docker's words."""
    from dockerfile_grammar.flags import parse_duration

    found = parse_duration(text)
    if found is None:
        raise CommandError(f'invalid argument "{text}" for "{option}" flag: time: invalid duration "{text}"')
    return found


def epoch_s(text: str) -> float:
    """Seconds since the epoch of a time in RFC 3339 with nanoseconds, as documents have it; 0.0 for Go's zero time."""
    stamp = _STAMP.fullmatch(text)
    if stamp is None or stamp["day"] == "0001-01-01":
        return 0.0
    return moment_ns(text, "") / _BILLION


def local(seconds: float) -> str:
    """A moment as docker's tables show it: ``2026-11-28 10:27:02 +0000 UTC``."""
    found = datetime.fromtimestamp(int(seconds), UTC).astimezone()
    return found.strftime("%Y-%m-%d %H:%M:%S %z %Z")


def fixed_time(moment_ns: int, *, is_local: bool = False) -> str:
    """RFC 3339 with nine digits always, so that lines stand below each other.

    is_local: with this host's time zone, as docker's events; else in UTC, as docker's logs.
    """
    seconds, fraction = divmod(moment_ns, _BILLION)
    moment = datetime.fromtimestamp(seconds, UTC)
    zone = "Z"
    if is_local:
        moment = moment.astimezone()
        offset = moment.strftime("%z")
        zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}{zone}"
