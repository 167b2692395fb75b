"""The tree of a run: its jobs, their stages and steps, each with its state, its time and its reason. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from ci.graph import ENDED
from pipelines.model import Step
from pipelines.runs.jobs import JobView
from web.pages.jobwords import shown_job
from web.pages.run_view import ALL, View
from web.pages.timeline import Bar, Group, draw
from web.pages.words import plural
from web.runcomparison import step_name

MARKS: Final = {"done": "succeeded", "cached": "reused"}
"""Of a step's state, where it is not the state's own."""

_WORST_FIRST: Final = ("failed", "running", "cancelled", "waiting", "done", "cached")
_AFTER_STAGES: Final = "image and cache"


class Row(msgspec.Struct, frozen=True):
    """A row of the tree.

    id: of its element. level: 1 for jobs, 2 and 3 for stages and steps.
    mark: the icon's name; empty: none. word: what it means.
    is_command: its name is something that is run.
    took_s: how long; None: not known. since: when it began, if it goes on. said: what stands in place of a time.
    is_fault: the reason is one.
    href: of the page with this chosen. place, step: what it is; step -1: no step.
    is_open: its steps are shown; None: it has none. turn: the address of the tree with its steps shown, or not.
    is_failure: a step that failed, or a job that failed without one.
    is_off: it was not run.
    """

    id: str
    level: int
    mark: str
    word: str
    name: str
    href: str
    place: int
    is_chosen: bool
    is_command: bool = False
    took_s: float | None = None
    since: float | None = None
    said: str = ""
    why: str = ""
    is_fault: bool = False
    step: int = -1
    state: str = ""
    is_open: bool | None = None
    turn: str = ""
    is_failure: bool = False
    is_off: bool = False


def is_open_by_itself(job: JobView) -> bool:
    """Whether a job's steps are shown unless somebody closed it."""
    return job.state in ("running", "failed", "error")


def grow(
    jobs: Sequence[JobView],
    steps: Mapping[int, Sequence[Step]],
    view: View,
    left_out: Mapping[str, str],
    *,
    lines: int,
    now: float,
) -> list[Row]:
    """All rows. steps: by place, of the jobs whose steps are shown. lines: of all logs. left_out: why, by name."""
    said = plural(lines, "line")
    why = _failed_meanwhile(jobs)
    rows = [
        Row(
            "row-all", 1, "", "", "All output", view.page(ALL), ALL, view.chosen == ALL, said=said, why=why,
            is_fault=bool(why),
        )
    ]  # fmt: skip
    for job in jobs:
        rows += _of_job(job, steps.get(job.place), view, now)
    rows += [
        Row(f"out-{name}", 1, "skipped", "left out", name, "", -1, False, why=reason, is_off=True)
        for name, reason in left_out.items()
    ]
    return rows


def _failed_meanwhile(jobs: Sequence[JobView]) -> str:
    """That jobs have failed while others go on: what is chosen stays chosen, and a key leads there."""
    failed = sum(job.state in ("failed", "error") and not job.may_fail for job in jobs)
    return f"{failed} failed; f goes there" if failed and any(job.state not in ENDED for job in jobs) else ""


def _of_job(job: JobView, steps: Sequence[Step] | None, view: View, now: float) -> Iterator[Row]:
    told = shown_job(job)
    is_chosen = view.chosen == job.place
    is_failed = job.state in ("failed", "error") and not job.may_fail
    failed_steps = any(step.state == "failed" for step in steps or ())
    until = job.finished_at or now
    has_none = job.is_gate or job.started_at is None or (steps is not None and not steps)
    is_open = None if has_none else steps is not None
    took_s = max(0.0, until - job.started_at) if job.started_at and job.state not in ("queued", "reused") else None
    yield Row(
        id=f"row-{job.place}",
        level=1,
        mark=told.mark,
        word=told.word,
        name="plan" if job.kind == "plan" else job.name,
        href=view.page(job.place),
        place=job.place,
        is_chosen=is_chosen and view.step < 0 and not view.stage,
        took_s=took_s,
        since=job.started_at if job.state in ("running", "blocked") else None,
        said=job.state if job.state in ("reused", "queued", "waiting", "cancelled") and job.started_at is None else "",
        why=told.reason,
        is_fault=is_failed,
        state=told.mark,
        is_open=is_open,
        turn=view.with_steps(job.place, shown=not is_open) if is_open is not None else "",
        is_failure=is_failed and not failed_steps,
        is_off=job.state in ("skipped", "cancelled", "waiting"),
    )
    if steps:
        yield from _of_steps(job, draw(steps, job.started_at, until).groups, view)


def _of_steps(job: JobView, groups: Sequence[Group], view: View) -> Iterator[Row]:
    has_stages = any(group.name for group in groups)
    for at, group in enumerate(groups):
        name = group.name or (_AFTER_STAGES if has_stages and at and len(group.bars) > 1 else "")
        if name:
            state = min((bar.step.state for bar in group.bars), key=_WORST_FIRST.index)
            yield Row(
                id=f"row-{job.place}-{at}s",
                level=2,
                mark=MARKS.get(state, state),
                word=state,
                name=name,
                href=view.page(job.place, stage=name),
                place=job.place,
                is_chosen=view.chosen == job.place and view.stage == name,
                took_s=group.duration_s or None,
                why=f"{group.cached} of {len(group.bars)} cached" if group.cached else "",
                state=state,
            )
        for bar in group.bars:
            yield _of_step(job, bar, 3 if name else 2, view)


def _of_step(job: JobView, bar: Bar, level: int, view: View) -> Row:
    step = bar.step
    is_out = step.state == "waiting" and job.state in ENDED
    is_failed = step.state == "failed"
    state = "skipped" if is_out else step.state
    return Row(
        id=f"row-{job.place}-{step.index}",
        level=level,
        mark=MARKS.get(state, state),
        word="not reached" if is_out else step.state,
        name=step_name(step),
        href=view.page(job.place, step.index),
        place=job.place,
        is_chosen=view.chosen == job.place and view.step == step.index,
        is_command=True,
        took_s=None if step.state == "cached" else bar.duration_s,
        since=step.started_at if step.state == "running" else None,
        said="cached" if step.state == "cached" else "",
        why=step.reason if step.state != "cached" else "",
        is_fault=is_failed,
        step=step.index,
        state=state,
        is_failure=is_failed and not job.may_fail,
        is_off=is_out or step.state in ("waiting", "cancelled"),
    )


def steps_of_stage(job: JobView, steps: Sequence[Step], stage: str, now: float) -> list[int]:
    """The indexes of a stage's steps, as the tree has them."""
    groups = draw(steps, job.started_at, job.finished_at or now).groups
    named = any(group.name for group in groups)
    return [
        bar.step.index
        for at, group in enumerate(groups)
        for bar in group.bars
        if (group.name or (_AFTER_STAGES if named and at and len(group.bars) > 1 else "")) == stage
    ]
