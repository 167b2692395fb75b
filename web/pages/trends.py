"""How a project's runs went, a day a point: drawings for its page, and the same as data to take along. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from pipelines.runs.rollups import DAY_S, Day
from web.pages.words import about, percent

WIDTH: Final = 300
HEIGHT: Final = 60
SPANS: Final = (30, 90, 365)
_EDGE: Final = 2.0
_RECENT: Final = 7
_FALL: Final = -0.5
_RISE: Final = 0.5


class Trends(msgspec.Struct, frozen=True):
    """Days in columns, the oldest first, without gaps. None: nothing ran on that day.

    days: ``2026-11-28``, UTC.
    median_s, slow_s: half of the day's runs, and 95 of 100, took no longer.
    reused: the part of steps that a cache answered, 0 … 1.
    waited_s: until a worker took a run, on average.
    """

    days: tuple[str, ...]
    median_s: tuple[float | None, ...]
    slow_s: tuple[float | None, ...]
    succeeded: tuple[int, ...]
    failed: tuple[int, ...]
    cancelled: tuple[int, ...]
    reused: tuple[float | None, ...]
    waited_s: tuple[float | None, ...]


class Bar(NamedTuple):
    """A part of a column, in the drawing's units."""

    kind: str
    x: float
    y: float
    width: float
    height: float


class Panel(NamedTuple):
    """One number of the last days, how it changed, and its line or bars.

    value: of the last seven days in which something ran.
    change: against the seven before; empty: there were none. is_better: None where it is neither.
    second: another line; empty: there is none.
    label: for who does not see it.
    foot: beside the span, below.
    """

    name: str
    value: str
    change: str
    is_better: bool | None
    line: str
    area: str
    second: str
    bars: tuple[Bar, ...]
    label: str
    foot: str


def columns(found: Sequence[Day], today: int, span: int) -> Trends:
    """The days up to ``today``, filled up where nothing ran."""
    known = {day.day: day for day in found}
    every = [known.get(day) for day in range(today - span + 1, today + 1)]
    return Trends(
        tuple(_date(day) for day in range(today - span + 1, today + 1)),
        _of(every, lambda day: day.median_s),
        _of(every, lambda day: day.slow_s),
        tuple(day.succeeded if day else 0 for day in every),
        tuple(day.failed + day.errors if day else 0 for day in every),
        tuple(day.cancelled if day else 0 for day in every),
        _of(every, lambda day: day.reused / day.steps if day.steps else None),
        _of(every, lambda day: day.waited_s if day.runs else None),
    )


def panels(trends: Trends) -> list[Panel]:
    """The four drawings of a project's page."""
    rates, failed = _rates(trends), sum(trends.failed)
    slowest = max((value for value in trends.slow_s if value is not None), default=None)
    top = slowest or 1.0
    return [
        _panel("Usual duration", trends.median_s, about, top=top, second=trends.slow_s, rising_is=False,
               foot=f"slowest 5 %: {about(_last(trends.slow_s)[0])}"),
        _panel("Success", [None if rate is None else 100 * rate for rate in rates], percent, top=100.0, rising_is=True,
               bars=_stacked(trends), foot=f"{failed:,} of {failed + sum(trends.succeeded):,} failed"),
        _panel("Steps reused", [None if part is None else 100 * part for part in trends.reused], percent, top=100.0,
               rising_is=True, foot="answered by a cache"),
        _panel("Time in the queue", trends.waited_s, about, rising_is=False, foot="until a worker took it"),
    ]  # fmt: skip


def as_csv(trends: Trends) -> str:
    """A line a day, with a head; empty where nothing ran."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = Trends.__struct_fields__
    writer.writerow(("day", *names[1:]))
    for values in zip(*(getattr(trends, name) for name in names), strict=True):
        writer.writerow(_cell(value) for value in values)
    return text.getvalue()


def _cell(value: float | int | str | None) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _panel(
    name: str,
    values: Sequence[float | None],
    told: Callable[[float], str],
    *,
    rising_is: bool,
    top: float | None = None,
    second: Sequence[float | None] = (),
    bars: tuple[Bar, ...] = (),
    foot: str = "",
) -> Panel:
    last, before = _last(values)
    value = "–" if last is None else told(last)
    change, is_better = _change(last, before, rising_is=rising_is)
    greatest = top or max((each for each in values if each is not None), default=1.0) or 1.0
    line = "" if bars else _line(values, greatest)
    area = (
        f"{line.split(' ')[0].partition(',')[0]},{HEIGHT} {line} {line.rpartition(' ')[2].partition(',')[0]},{HEIGHT}"
        if line
        else ""
    )
    label = f"{name}, {len(values)} days: {value}{f', {change}' if change else ''}"
    return Panel(name, value, change, is_better, line, area, _line(second, greatest), bars, label, foot)


def _line(values: Sequence[float | None], greatest: float) -> str:
    """Points of a line over the days on which something ran; "" for fewer than two."""
    step, room = WIDTH / max(1, len(values) - 1), HEIGHT - 2 * _EDGE
    found = [
        f"{at * step:.1f},{HEIGHT - _EDGE - room * min(1.0, value / greatest):.1f}"
        for at, value in enumerate(values)
        if value is not None
    ]
    return " ".join(found if len(found) != 1 else found * 2)  # of one day: a dot


def _stacked(trends: Trends) -> tuple[Bar, ...]:
    """A column a day: what failed below what succeeded."""
    most = max((good + bad for good, bad in zip(trends.succeeded, trends.failed, strict=True)), default=0)
    if not most:
        return ()
    pitch, room = WIDTH / len(trends.days), HEIGHT - 2 * _EDGE
    found = []
    for at, (good, bad) in enumerate(zip(trends.succeeded, trends.failed, strict=True)):
        low = room * bad / most
        for kind, count, bottom in (("failed", bad, 0.0), ("succeeded", good, low)):
            height = room * count / most
            if count:
                y = HEIGHT - _EDGE - bottom - height
                found.append(
                    Bar(kind, round(at * pitch, 1), round(y, 1), round(max(1.0, pitch - 2), 1), round(height, 1))
                )
    return tuple(found)


def _last(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The mean of the last seven days with a value, and of the seven before; None: there are none."""
    known = [value for value in values if value is not None]
    last, before = known[-_RECENT:], known[-2 * _RECENT : -_RECENT]
    return (sum(last) / len(last) if last else None), (sum(before) / len(before) if before else None)


def _change(last: float | None, before: float | None, *, rising_is: bool) -> tuple[str, bool | None]:
    if last is None or not before:
        return "", None
    change = 100 * (last - before) / before
    if _FALL < change < _RISE:
        return "as before", None
    sign = "+" if change > 0 else "−"
    return f"{sign}{abs(change):.0f} %", (change > 0) == rising_is


def _rates(trends: Trends) -> list[float | None]:
    pairs = zip(trends.succeeded, trends.failed, strict=True)
    return [good / (good + bad) if good + bad else None for good, bad in pairs]


def _of(every: Sequence[Day | None], member: Callable[[Day], float | None]) -> tuple[float | None, ...]:
    return tuple(None if day is None else member(day) for day in every)


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_S, UTC).strftime("%Y-%m-%d")
