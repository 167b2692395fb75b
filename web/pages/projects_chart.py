"""The history of a project's runs as a drawing: a bar for each duration, a line for what the cache answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from pipelines.hooks.history import Point
from web.pages.words import duration

WIDTH: Final = 720
HEIGHT: Final = 150
_LEFT: Final = 52  # for the scale
_TOP: Final = 8
_BOTTOM: Final = 6
_GAP: Final = 2.0
_WIDEST: Final = 28.0
_STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600)


class Bar(NamedTuple):
    """One run, in the drawing's units. told: for the pointer, and for those who do not see it."""

    x: float
    y: float
    width: float
    height: float
    state: str
    told: str


class Chart(NamedTuple):
    """hits: points of the line of hit rates. lines: (y, label) of the scale. summary: for those who do not see it."""

    width: int
    height: int
    left: int
    bars: tuple[Bar, ...]
    hits: str
    lines: tuple[tuple[float, str], ...]
    summary: str


def draw(points: Sequence[Point]) -> Chart | None:
    """None where there is nothing to draw. points: the oldest first."""
    if not points:
        return None
    longest = max(max(point.duration_s for point in points), 0.1)
    room = HEIGHT - _TOP - _BOTTOM
    pitch = min(_WIDEST, (WIDTH - _LEFT) / len(points))
    bars = []
    hits = []
    for index, point in enumerate(points):
        height = max(1.0, room * point.duration_s / longest)
        x = _LEFT + index * pitch
        bars.append(Bar(round(x, 1), round(HEIGHT - _BOTTOM - height, 1), round(max(1.0, pitch - _GAP), 1),
                        round(height, 1), point.state, _told(point)))  # fmt: skip
        if point.hit_rate is not None:
            hits.append(f"{x + (pitch - _GAP) / 2:.1f},{HEIGHT - _BOTTOM - room * point.hit_rate:.1f}")
    return Chart(WIDTH, HEIGHT, _LEFT, tuple(bars), " ".join(hits), _scale(longest, room), _summary(points))


def _scale(longest: float, room: float) -> tuple[tuple[float, str], ...]:
    """One or two round durations below the longest."""
    fitting = [step for step in _STEPS_S if step <= longest]
    chosen = fitting[-1:] if len(fitting) < 2 or fitting[-2] < longest / 4 else fitting[-2:]
    return tuple((round(HEIGHT - _BOTTOM - room * step / longest, 1), _short(step)) for step in chosen)


def _short(step: int) -> str:
    if step < 60:
        return f"{step} s"
    return f"{step // 60} min" if step < 3600 else f"{step // 3600} h"


def _told(point: Point) -> str:
    cached = "" if point.hit_rate is None else f", {point.hit_rate:.0%} from the cache"
    return f"run {point.number}: {point.state} in {duration(point.duration_s)}{cached}"


def _summary(points: Sequence[Point]) -> str:
    times = sorted(point.duration_s for point in points)
    rates = [point.hit_rate for point in points if point.hit_rate is not None]
    good = sum(point.state == "succeeded" for point in points)
    cached = f", the cache answered {sum(rates) / len(rates):.0%} of the steps" if rates else ""
    median = duration(times[len(times) // 2])
    return f"{good} of the last {len(points)} runs succeeded, half of them took up to {median}{cached}"
