"""The strip above a run's panes: its jobs over time, or a build's steps, one row each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from pipelines.model import Run, Step
from pipelines.runs.jobs import JobView
from web.pages.jobwords import shown_job
from web.pages.run_tree import MARKS
from web.pages.run_view import View
from web.pages.timeline import Lane, Pause, Tick, draw, draw_jobs
from web.pages.words import duration
from web.runcomparison import step_name

ROW: Final = 19.0  # px
TOP: Final = 18.0  # px that the axis takes
_LEFT: Final = 15.0  # of the width, for names
_SCALE: Final = 0.73  # of the width, for bars; what is left is for the times at their ends
_LONGEST: Final = 17  # characters of a name


class Row(msgspec.Struct, frozen=True):
    """A row. y: px from above. x, width: in hundredths of the strip; width 0: it has not begun.

    label: as much of the name as there is room for. cuts: where steps end. href: of the page with it chosen.
    """

    name: str
    label: str
    mark: str
    word: str
    y: float
    x: float
    width: float
    said: str
    cuts: tuple[float, ...]
    href: str
    is_chosen: bool


class Strip(msgspec.Struct, frozen=True):
    """All rows. ticks, pauses: x and widths are in hundredths of the strip. now: that moment, of a run that goes on."""

    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    pauses: tuple[Pause, ...]
    height: float
    words: str
    now: float | None = None


def strip_of(run: Run, jobs: Sequence[JobView], steps: Mapping[int, Sequence[Step]], view: View, now: float) -> Strip:
    """Of a pipeline its jobs in the order in which they began; of a build its steps.

    steps: by place, of the jobs for which they are known.
    """
    until = run.finished_at or (now if any(job.state == "running" for job in jobs) else _last(jobs, now))
    if len(jobs) == 1:
        drawn = draw(steps.get(jobs[0].place, ()), jobs[0].started_at, until)
        bars = sorted(
            (bar for group in drawn.groups for bar in group.bars if bar.width),
            key=lambda bar: (bar.step.started_at or 0.0, bar.step.index),
        )
        rows = tuple(
            Row(
                name=step_name(bar.step),
                label=_short(step_name(bar.step)),
                mark=MARKS.get(bar.step.state, bar.step.state),
                word=bar.step.state,
                y=TOP + ROW * at,
                x=_x(bar.x),
                width=bar.width * _SCALE,
                said="cached" if bar.step.state == "cached" else duration(bar.duration_s),
                cuts=(),
                href=view.page(jobs[0].place, bar.step.index),
                is_chosen=view.step == bar.step.index,
            )
            for at, bar in enumerate(bars)
        )
        return _strip(rows, drawn.ticks, ())
    timeline = draw_jobs(jobs, until, goes_on=not run.is_final)
    lanes = sorted((lane for lane in timeline.lanes if lane.width), key=lambda lane: lane.job.started_at or 0.0)
    scale = 100.0 / timeline.span_s
    rows = tuple(
        _lane(lane, TOP + ROW * at, steps.get(lane.job.place, ()), view, scale) for at, lane in enumerate(lanes)
    )
    pauses = tuple(Pause(_x(pause.x), pause.width * _SCALE, pause.duration_s) for pause in timeline.pauses)
    drawn_jobs = _strip(rows, timeline.ticks, pauses)
    return drawn_jobs if run.is_final else msgspec.structs.replace(drawn_jobs, now=_x(timeline.now))


def _strip(rows: tuple[Row, ...], ticks: Sequence[Tick], pauses: tuple[Pause, ...]) -> Strip:
    longest = max(rows, key=lambda row: row.width, default=None)
    bad = [f"{row.name} {row.word} after {row.said}" for row in rows if row.mark in ("failed", "error")][:3]
    words = [*bad, *([f"{longest.name} took longest, {longest.said}"] if longest is not None else [])]
    moved = tuple(Tick(_x(tick.x), tick.at_s) for tick in ticks)
    return Strip(rows, moved, pauses, TOP + ROW * max(1, len(rows)) + 4, "; ".join(words) or "nothing has begun")


def _lane(lane: Lane, y: float, steps: Sequence[Step], view: View, scale: float) -> Row:
    job, told = lane.job, shown_job(lane.job)
    name = "plan" if job.kind == "plan" else job.name
    began = job.started_at or 0.0
    ends = [step.started_at + step.duration_s - began for step in steps if step.started_at and step.state != "running"]
    cuts = sorted(lane.x + end * scale for end in ends)
    return Row(
        name=name,
        label=_short(name),
        mark=told.mark,
        word=told.word,
        y=y,
        x=_x(lane.x),
        width=lane.width * _SCALE,
        said="reused" if job.state == "reused" else duration(lane.duration_s),
        cuts=tuple(_x(cut) for cut in cuts if lane.x < cut < lane.x + lane.width - 0.2),
        href=view.page(job.place),
        is_chosen=view.chosen == job.place,
    )


def _last(jobs: Sequence[JobView], now: float) -> float:
    return max((job.finished_at for job in jobs if job.finished_at is not None), default=now)


def _x(x: float) -> float:
    return _LEFT + x * _SCALE


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
