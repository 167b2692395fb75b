"""Numbers and times as people read them; the filters of the templates."""

from __future__ import annotations

import itertools
import json
import re
import time
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pipelines.logs.tail import plain

_EXCERPT: Final = re.compile(r" *\d* \|(?: |$)")
_UNITS: Final = ("kB", "MB", "GB", "TB", "PB")
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400
_LONGEST: Final = 1000
_TURNING: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Passage(NamedTuple):
    """A part of an error's text. is_excerpt: numbered lines of a file, with carets that mark columns."""

    is_excerpt: bool
    text: str


def passages(error: str) -> list[Passage]:
    """An error in parts, so that its sentences can be wrapped and its excerpts cannot."""
    grouped = itertools.groupby(error.rstrip("\n").split("\n"), lambda line: _EXCERPT.match(line) is not None)
    return [Passage(is_excerpt, "\n".join(lines)) for is_excerpt, lines in grouped]


def duration(seconds: float | None) -> str:
    """``0.42 s``, ``7.1 s``, ``3 min 20 s``, ``2 h 05 min``; a dash for None."""
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"


def axis(seconds: float) -> str:
    """A moment on a time line: ``0.5 s``, ``20 s``, ``1:30``, ``2:00:00``."""
    if seconds < _MINUTE:
        return f"{seconds:g} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}:{whole % _MINUTE:02}"
    return f"{whole // _HOUR}:{whole % _HOUR // _MINUTE:02}:{whole % _MINUTE:02}"


def size(size_bytes: float) -> str:
    """``512 B``, ``1.3 MB``: decimal units, as registries show them."""
    value = float(size_bytes)
    if value < 1000:
        return f"{value:.0f} B"
    for unit in _UNITS:
        value /= 1000
        if value < 999.5 or unit == _UNITS[-1]:
            break
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def ago(at: float, now: float | None = None) -> str:
    """How long ago: ``just now``, ``4 min ago``, ``3 h ago``, ``2 days ago``, and a date beyond a month."""
    passed = (time.time() if now is None else now) - at
    if passed < 10:
        return "just now"
    if passed < _MINUTE:
        return f"{passed:.0f} s ago"
    if passed < _HOUR:
        return f"{passed // _MINUTE:.0f} min ago"
    if passed < _DAY:
        return f"{passed // _HOUR:.0f} h ago"
    days = int(passed // _DAY)
    if days <= 31:
        return "yesterday" if days == 1 else f"{days} days ago"
    return datetime.fromtimestamp(at, UTC).strftime("%-d %b %Y")


def iso(at: float) -> str:
    """For ``datetime`` attributes: ``2026-11-24T01:53:02Z``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short(digest: str) -> str:
    """The first twelve digits of a digest or commit, without the algorithm."""
    return digest.rpartition(":")[2][:12]


def about(seconds: float | None) -> str:
    """A usual time, no more exact than it is: ``40 s``, ``1 min 04 s``, ``2 h 05 min``; a dash for None."""
    if seconds is None:
        return "–"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s" if seconds < 59.5 else duration(seconds)


def percent(part: float) -> str:
    """``94.1 %``, ``100 %``."""
    return f"{part:.0f} %" if part in (0, 100) else f"{min(part, 99.9):.1f} %"


def thousands(count: int) -> str:
    """``18,344``."""
    return f"{count:,}"


def plural(count: int, one: str, many: str = "") -> str:
    """``1 run``, ``3 runs``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def epoch(text: str) -> float | None:
    """Seconds since the epoch, from an RFC 3339 time as images have it; None for any other text."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


_BROWSERS: Final = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", ""), ("Chrome", ""), ("Version", "Safari"))
_SYSTEMS: Final = (("Android", ""), ("iPhone", ""), ("iPad", ""), ("Windows", ""), ("Mac OS X", "macOS"), ("Linux", ""))


def browser(agent: str) -> str:
    """A ``User-Agent`` in short: ``Firefox 140 on Linux``; unknown ones as they are."""
    for mark, name in _BROWSERS:
        found = re.search(rf"\b{mark}/(\d+)", agent)
        if found:
            system = next((shown or sign for sign, shown in _SYSTEMS if sign in agent), "")
            return f"{name or mark} {found[1]}" + (f" on {system}" if system else "")
    return agent[:100] or "unknown"


def cut_off(text: str) -> str:
    """A text of strangers, of which a page shows no more than some lines."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def as_json(value: object) -> str:
    """JSON for people, unescaped: the template escapes for HTML, and the browser shows the original."""
    return json.dumps(value, ensure_ascii=False)


def weblink(url: str) -> str:
    """The address if a browser may be sent there, else nothing: the address came from outside."""
    return url if url.startswith(("https://", "http://")) else ""


def unturned(text: str) -> str:
    """A text of strangers without marks of direction: beside it in a title, which takes no ``<bdi>``, stand our words.

    What is escaped for HTML stays so.
    """
    return type(text)(_TURNING.sub("", text))


FILTERS: Final = {
    word.__name__: word
    for word in (
        about, ago, as_json, axis, browser, cut_off, duration, epoch, iso, passages, percent, plain, plural, short,
        size, thousands, unturned, weblink,
    )
}  # fmt: skip
