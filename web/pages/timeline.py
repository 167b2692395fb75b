"""Timelines of steps and of jobs, to scale: begin and length of each bar, in hundredths of the whole width. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from pipelines.model import Step
from pipelines.runs.jobs import JobView

WIDTH: Final = 100.0
_MIN_BAR: Final = 0.3  # a step that took no time is seen all the same
_MIN_SPAN_S: Final = 0.05
_TICKS: Final = 6
_NICE: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


class Bar(msgspec.Struct, frozen=True):
    """A step's row. x, width: of WIDTH; width 0: not begun. duration_s: None while it is not known."""

    step: Step
    x: float
    width: float
    duration_s: float | None


class Group(msgspec.Struct, frozen=True):
    """Steps of one stage, in the Dockerfile's order. name: empty for steps outside any stage."""

    name: str
    bars: tuple[Bar, ...]
    cached: int
    duration_s: float


class Lane(msgspec.Struct, frozen=True):
    """A job's row. x, width: of WIDTH; width 0: not begun. duration_s: None while it is not known."""

    job: JobView
    x: float
    width: float
    duration_s: float | None


class Tick(msgspec.Struct, frozen=True):
    """A moment on the axis. at_s: since the run began."""

    x: float
    at_s: float


class Timeline(msgspec.Struct, frozen=True):
    """A run's steps over time.

    span_s: the time that the whole width stands for.
    """

    groups: tuple[Group, ...]
    ticks: tuple[Tick, ...]
    span_s: float


class JobTimeline(msgspec.Struct, frozen=True):
    """A run's jobs over time, in their order.

    span_s: the time that the whole width stands for.
    """

    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]
    span_s: float


def draw_jobs(jobs: Sequence[JobView], until: float) -> JobTimeline:
    """Lay out ``jobs``. until: the run's end, or now; seconds since the epoch."""
    starts = [job.started_at for job in jobs if job.started_at is not None]
    zero = min([until, *starts])
    span_s = max([until, *(job.finished_at for job in jobs if job.finished_at is not None)]) - zero
    span_s = max(span_s, _MIN_SPAN_S)
    scale = WIDTH / span_s
    return JobTimeline(tuple(_lane(job, zero, until, scale) for job in jobs), _ticks(span_s), span_s)


def _lane(job: JobView, zero: float, until: float, scale: float) -> Lane:
    if job.started_at is None or job.state == "queued":
        return Lane(job, 0.0, 0.0, None)
    duration_s = max(0.0, (until if job.finished_at is None else job.finished_at) - job.started_at)
    return Lane(job, *_extent(job.started_at - zero, duration_s, scale), duration_s)


def draw(steps: Sequence[Step], began_at: float | None, until: float) -> Timeline:
    """Lay out ``steps``. began_at, until: the run's beginning and its end, or now; seconds since the epoch."""
    starts = [step.started_at for step in steps if step.started_at is not None]
    zero = min(starts) if began_at is None and starts else min([began_at or until, *starts])
    ends = [step.started_at + step.duration_s for step in steps if step.started_at is not None]
    span_s = max([until, *ends], default=until) - zero
    span_s = max(span_s, _MIN_SPAN_S)
    scale = WIDTH / span_s
    bars = [_bar(step, zero, until, scale) for step in steps]
    return Timeline(tuple(_groups(bars)), _ticks(span_s), span_s)


def _ticks(span_s: float) -> tuple[Tick, ...]:
    return tuple(Tick(at_s * WIDTH / span_s, at_s) for at_s in moments(span_s, _TICKS))


def _bar(step: Step, zero: float, until: float, scale: float) -> Bar:
    if step.started_at is None or step.state == "waiting":
        return Bar(step, 0.0, 0.0, None)
    duration_s = max(0.0, until - step.started_at) if step.state == "running" else step.duration_s
    return Bar(step, *_extent(step.started_at - zero, duration_s, scale), duration_s)


def _extent(begin_s: float, duration_s: float, scale: float) -> tuple[float, float]:
    """Where a bar begins, and how wide it is."""
    width = max(_MIN_BAR, duration_s * scale)
    return min(begin_s * scale, WIDTH - width), width


def _groups(bars: Sequence[Bar]) -> Iterator[Group]:
    """The Dockerfile's stages in order; before them the steps of no stage that came first, behind them the others."""
    inner = [bar for bar in bars if not bar.step.stage]
    early = [bar for bar in inner if bar.duration_s is not None and bar.x * 2 < WIDTH]
    stages: dict[str, list[Bar]] = {}
    for bar in sorted(bars, key=lambda bar: (bar.step.line, bar.step.index)):
        if bar.step.stage:
            stages.setdefault(bar.step.stage, []).append(bar)
    for name, some in (("", early), *stages.items(), ("", [bar for bar in inner if bar not in early])):
        if some:
            yield _group(name, tuple(some))


def _group(name: str, bars: tuple[Bar, ...]) -> Group:
    began = [bar.step.started_at for bar in bars if bar.step.started_at is not None]
    ended = [bar.step.started_at + (bar.duration_s or 0.0) for bar in bars if bar.step.started_at is not None]
    cached = sum(bar.step.state == "cached" for bar in bars)
    return Group(name, bars, cached, max(ended) - min(began) if began else 0.0)


def moments(span_s: float, most: int) -> list[float]:
    """Round times from zero up to ``span_s``: zero, and at most ``most`` others."""
    step_s = next((nice for nice in _NICE if span_s / nice <= most), span_s / most)
    return [number * step_s for number in range(int(span_s / step_s) + 1)]
