"""The chart of a project's runs: a bar for each duration, a line for the cache's hit rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from pipelines.runs.history import Point
from web.pages.timeline import moments
from web.pages.words import axis, duration

WIDTH: Final = 720
HEIGHT: Final = 150
_TOP: Final = 8
_BOTTOM: Final = 6
_GAP: Final = 2.0
_WIDEST: Final = 28.0
_LINES: Final = 4


class Bar(NamedTuple):
    """One run, in the drawing's units. told: a text for the pointer, and for those who do not see the chart."""

    x: float
    y: float
    width: float
    height: float
    state: str
    told: str


class Chart(NamedTuple):
    """A project's chart, in the units of its picture.

    hits: points of the line of hit rates.
    lines: (y, label) of the scale.
    summary: for those who do not see the chart.

    The page stretches ``width`` to the room that it has.
    """

    width: int
    height: int
    bars: tuple[Bar, ...]
    hits: str
    lines: tuple[tuple[float, str], ...]
    summary: str


def draw(points: Sequence[Point]) -> Chart | None:
    """The chart; None where there is nothing to draw. points: the oldest first."""
    if not points:
        return None
    longest = max(max(point.duration_s for point in points), 0.1)
    room = HEIGHT - _TOP - _BOTTOM
    pitch = min(_WIDEST, WIDTH / len(points))
    bars = []
    hits = []
    for index, point in enumerate(points):
        height = max(1.0, room * point.duration_s / longest)
        x = index * pitch
        bars.append(Bar(round(x, 1), round(HEIGHT - _BOTTOM - height, 1), round(max(1.0, pitch - _GAP), 1),
                        round(height, 1), point.state, _told(point)))  # fmt: skip
        if point.hit_rate is not None:
            hits.append(f"{x + (pitch - _GAP) / 2:.1f},{HEIGHT - _BOTTOM - room * point.hit_rate:.1f}")
    return Chart(WIDTH, HEIGHT, tuple(bars), " ".join(hits), _scale(longest, room), _summary(points))


def _scale(longest: float, room: float) -> tuple[tuple[float, str], ...]:
    """A few round durations from zero to the longest."""
    return tuple((round(HEIGHT - _BOTTOM - room * at_s / longest, 1), axis(at_s)) for at_s in moments(longest, _LINES))


def _told(point: Point) -> str:
    cached = "" if point.hit_rate is None else f", {point.hit_rate:.0%} from the cache"
    return f"run {point.number}: {point.state} in {duration(point.duration_s)}{cached}"


def _summary(points: Sequence[Point]) -> str:
    times = sorted(point.duration_s for point in points)
    rates = [point.hit_rate for point in points if point.hit_rate is not None]
    good = sum(point.state in ("succeeded", "warnings") for point in points)
    cached = f", the cache answered {sum(rates) / len(rates):.0%} of the steps" if rates else ""
    median = duration(times[len(times) // 2])
    return f"{good} of the last {len(points)} runs succeeded, half of them took up to {median}{cached}"
