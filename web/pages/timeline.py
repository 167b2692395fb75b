"""Timelines of steps and of jobs, to scale: begin and length of each bar, in hundredths of the whole width. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from pipelines.model import Step
from pipelines.runs.jobs import JobView

WIDTH: Final = 100.0
_MIN_BAR: Final = 0.3  # a step that took no time is seen all the same
_MIN_SPAN_S: Final = 0.05
_TICKS: Final = 6
_PAUSE: Final = 0.06  # of the time in which jobs went on: what is drawn of a long pause
_SHORT_PAUSE_S: Final = 10.0  # is drawn to scale
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


class Pause(msgspec.Struct, frozen=True):
    """A time in which no job went on: it waited for people, or for a worker. Not to scale. x, width: of WIDTH."""

    x: float
    width: float
    duration_s: float


class JobTimeline(msgspec.Struct, frozen=True):
    """A run's jobs over time, in their order.

    span_s: the time that the whole width stands for, without pauses as they were, with what is drawn of them.
    now: where the bars of what goes on end.
    """

    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]
    span_s: float
    pauses: tuple[Pause, ...] = ()
    now: float = WIDTH


class _Clock:
    """Moments of a run as seconds on the axis, long pauses being as short as they are drawn."""

    def __init__(self, zero: float, pauses: Sequence[tuple[float, float]], drawn_s: float) -> None:
        self._zero = zero
        self._pauses = pauses
        self._drawn_s = drawn_s

    def at(self, moment: float) -> float:
        """Seconds on the axis."""
        cut = 0.0
        for begin, end in self._pauses:
            if moment > begin:
                passed = (min(moment, end) - begin) / (end - begin)
                cut += passed * (end - begin - self._drawn_s)
        return moment - self._zero - cut


def draw_jobs(jobs: Sequence[JobView], until: float, *, goes_on: bool = False) -> JobTimeline:
    """Lay out ``jobs``.

    until: the run's end, or now; seconds since the epoch.
    goes_on: the run does. The axis has room then, so that bars that have ended stay in their place for a while.
    """
    starts = [job.started_at for job in jobs if job.started_at is not None]
    zero = min([until, *starts])
    end = max([until, *starts, *(job.finished_at for job in jobs if job.finished_at is not None)])
    pauses, worked_s = _pauses([job for job in jobs if not job.is_gate], zero, end)
    drawn_s = worked_s * _PAUSE
    clock = _Clock(zero, pauses, drawn_s)
    ended_s = max(clock.at(end), _MIN_SPAN_S)
    span_s = _roomy(ended_s) if goes_on else ended_s
    scale = WIDTH / span_s
    return JobTimeline(
        tuple(_lane(job, clock, until, scale) for job in jobs),
        _ticks(span_s) if not pauses else _worked_ticks(pauses, zero, worked_s, drawn_s, scale),
        span_s,
        tuple(Pause(clock.at(begin) * scale, drawn_s * scale, stop - begin) for begin, stop in pauses),
        ended_s * scale,
    )


def _roomy(span_s: float) -> float:
    """The next round time, at most a sixth of the span away where that is one of seconds to hours."""
    step_s = next((nice for nice in _NICE if span_s / nice <= _TICKS), span_s / _TICKS)
    return step_s * math.ceil(span_s / step_s)


def _pauses(jobs: Sequence[JobView], zero: float, end: float) -> tuple[list[tuple[float, float]], float]:
    """When for long no job went on, and for how many seconds some did."""
    times = sorted(
        (job.started_at, end if job.finished_at is None else max(job.started_at, job.finished_at))
        for job in jobs
        if job.started_at is not None and job.state != "queued"
    )
    idle, at = [], zero
    for begin, stop in [*times, (end, end)]:
        if begin > at:
            idle.append((at, begin))
        at = max(at, stop)
    worked_s = end - zero - sum(stop - begin for begin, stop in idle)
    long = [(begin, stop) for begin, stop in idle if stop - begin > max(_SHORT_PAUSE_S, worked_s * _PAUSE * 2)]
    if not times or worked_s <= 0:
        return [], end - zero
    return long, end - zero - sum(stop - begin for begin, stop in long)


def _worked_ticks(
    pauses: Sequence[tuple[float, float]], zero: float, worked_s: float, drawn_s: float, scale: float
) -> tuple[Tick, ...]:
    """Moments by the time in which jobs went on."""
    ticks = []
    for at_s in moments(worked_s, _TICKS):
        before, shift = zero, 0.0
        for begin, stop in pauses:
            if at_s > begin - before:
                before, shift = before + stop - begin, shift + drawn_s
        ticks.append(Tick((at_s + shift) * scale, at_s))
    return tuple(ticks)


def _lane(job: JobView, clock: _Clock, until: float, scale: float) -> Lane:
    if job.started_at is None or job.state == "queued":
        return Lane(job, 0.0, 0.0, None)
    ended = until if job.finished_at is None else job.finished_at
    begin = clock.at(job.started_at)
    return Lane(job, *_extent(begin, max(0.0, clock.at(ended) - begin), scale), max(0.0, ended - job.started_at))


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
    width = min(WIDTH, max(_MIN_BAR, duration_s * scale))
    return max(0.0, min(begin_s * scale, WIDTH - width)), width


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
