"""Drawings of some numbers, as places and sizes for templates: strips of runs, and sparklines. Pure.

In a strip the height is the time that a run took, over the longest of the strip; a board that failed has slipped: it
hangs below the line, so that failure is seen without colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from pipelines.runs.strips import SHOWN, Brief, Strip
from web.pages.words import duration, plural

HEIGHT: Final = 34
_PITCH: Final = 12
_BAR: Final = 9
_LINE: Final = 29.0
_SLIP: Final = 5.0
_TALLEST: Final = 25.5
_LEAST: Final = 4.0
_SLIPPED: Final = ("failed", "error")
_WELL: Final = ("succeeded", "warnings")


class Bar(NamedTuple):
    """One run. run: its number; 0: there is none in this place. told: for the pointer, and for who does not see it."""

    state: str
    x: float
    y: float
    width: float
    height: float
    run: int = 0
    told: str = ""


class Bars(NamedTuple):
    """A strip as it is drawn. label: for those who do not see it."""

    width: int
    height: int
    bars: tuple[Bar, ...]
    label: str


def draw_strip(strip: Strip, now: float, *, places: int = SHOWN) -> Bars:
    """The strip, its newest run at the right. now: for runs that have not ended."""
    shown = strip.runs[-places:]
    times = [_time(run, now) for run in shown]
    longest = max([*times, 0.1])
    missing = places - len(shown)
    bars = [Bar("none", at * _PITCH, _LINE - 1, _BAR, 1) for at in range(missing)]
    for at, (run, took) in enumerate(zip(shown, times, strict=True), missing):
        height = round(max(_LEAST, _TALLEST * took / longest), 1)
        slip = _SLIP if run.state in _SLIPPED else 0.0
        state = "queued" if run.state == "blocked" else run.state
        bars.append(
            Bar(state, at * _PITCH, round(_LINE + slip - height, 1), _BAR, height, run.number, _told(run, took))
        )
    return Bars(places * _PITCH - (_PITCH - _BAR), HEIGHT, tuple(bars), label_of(strip, places))


def label_of(strip: Strip, places: int = SHOWN) -> str:
    """The strip in words."""
    shown = strip.runs[-places:]
    if not shown:
        return "no runs yet"
    well = sum(run.state in _WELL for run in shown)
    wrong = sum(run.state in _SLIPPED for run in shown)
    others = len(shown) - well - wrong
    ended = f"{well} succeeded, {wrong} failed" + (f", {plural(others, 'other')}" if others else "")
    last = "last run" if len(shown) == 1 else f"last {len(shown)} runs"
    return f"{last}: {ended}; newest {shown[-1].state}"


def sparkline(values: Sequence[float | None], width: int = 120, height: int = 28, edge: float = 3.0) -> str:
    """Points of a line through the values, from the least at the bottom to the greatest; "" below two values.

    None: there is no value in this place.
    """
    known = [(at, value) for at, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return ""
    least, greatest = min(value for _, value in known), max(value for _, value in known)
    room, step = height - 2 * edge, width / (len(values) - 1)
    span = (greatest - least) or 1.0
    middle = 0.5 if greatest == least else 0.0
    return " ".join(
        f"{at * step:.1f},{height - edge - room * ((value - least) / span + middle):.1f}" for at, value in known
    )


def _time(run: Brief, now: float) -> float:
    if run.duration_s is not None:
        return run.duration_s
    return max(0.0, now - run.started_at) if run.started_at is not None and not run.is_final else 0.0


def _told(run: Brief, took: float) -> str:
    title = f" {run.trigger.title[:80]}" if run.trigger.title else ""
    lasted = f", {duration(took)}" if took else ""
    return f"#{run.number}{title}: {run.state}{lasted}"
