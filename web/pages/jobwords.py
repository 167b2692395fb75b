"""What pages say of jobs: the mark of a state, the word beside it, and the reason. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from pipelines.model import JobState
from pipelines.runs.jobs import JobView, Mark, Marks
from web.pages.graph import Box, states_in_words

_WORST_FIRST: Final = (
    "error", "failed", "running", "blocked", "queued", "waiting", "cancelled", "warnings", "skipped", "succeeded",
    "reused",
)  # fmt: skip
"""What a box shows that stands for several jobs."""


class ShownJob(msgspec.Struct, frozen=True):
    """A job's state. mark: the icon's name, and that of its colour. word: what it means. reason: why it is so."""

    mark: str
    word: str
    reason: str


class ShownBox(msgspec.Struct, frozen=True):
    """A box of the graph.

    place: of the job to which it leads; 0: it opens a matrix.
    is_chosen: the chosen job is in it.
    is_dead: it was not run, and will not be.
    is_gate: people answer it.
    """

    box: Box
    mark: str
    words: str
    place: int
    is_chosen: bool
    is_dead: bool
    is_gate: bool = False


def shown_job(job: JobView) -> ShownJob:
    """What is said of a job in a list."""
    if job.is_flaky:
        return ShownJob("warnings", "flaky", f"it succeeded at attempt {job.attempt}, after it had failed")
    if job.state == "failed" and job.may_fail:
        return ShownJob("warnings", "failed, which it may", job.reason)
    if job.state == "reused":
        return ShownJob("reused", "reused", job.reason or f"it has the result of run {job.reused_from}")
    if job.is_gate and job.state == "blocked":
        return ShownJob("blocked", "asks", job.reason)
    if job.is_gate and job.state == "succeeded":
        return ShownJob("succeeded", "approved", job.reason)
    if job.state == "left out":
        return ShownJob("skipped", "left out", job.reason)
    reason = job.reason
    if job.state == "running" and not reason and job.attempt > 1:
        reason = f"attempt {job.attempt}"
    return ShownJob(job.state, job.state, reason.partition("\n")[0])


def shown_box(box: Box, jobs: Sequence[JobView], chosen: int) -> ShownBox:
    """jobs: of the box. chosen: the place of the chosen job."""
    marks = [shown_job(job) for job in jobs]
    mark = min((found.mark for found in marks), key=_WORST_FIRST.index)
    words = states_in_words(found.word for found in marks) if box.is_lapped else marks[0].word
    return ShownBox(
        box, mark, words, 0 if box.is_lapped else jobs[0].place, any(job.place == chosen for job in jobs),
        all(found.mark in ("skipped", "cancelled") for found in marks), jobs[0].is_gate,
    )  # fmt: skip


def mark_of(mark: Mark) -> str:
    """The icon of a job in a list of runs."""
    return "warnings" if mark.is_warning else mark.state


def marks_in_words(marks: Marks) -> str:
    """``5 jobs: 3 succeeded, 2 waiting``."""
    counts: dict[JobState, int] = marks.counts
    total = sum(counts.values())
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{total} {'job' if total == 1 else 'jobs'}: {told}"
