"""Why a job waits, and why it was skipped, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ci.graph import ENDED, JobNode, jobs_before

_NAMED: Final = 3


def why_waiting(job: JobNode, jobs: Sequence[JobNode]) -> str:
    """Of a job that is waiting. jobs: all of its run."""
    going_on = [other.name for other in jobs if other.state not in ENDED]
    needed = [name for name in going_on if name in job.needs]
    if needed:
        return f"waits for {_listed(needed)}"
    before = jobs_before(jobs)[job.name]
    still_ending = [name for name in going_on if name in before]
    if still_ending:  # what it needs was cancelled, and what that waited for has not ended yet
        return f"waits for {_listed(still_ending)}"
    going = sum(other.matrix == job.matrix and other.state in ("blocked", "queued", "running") for other in jobs)
    if job.matrix and job.max_parallel is not None and going >= job.max_parallel:
        return f"{job.matrix} has {going} {'job' if going == 1 else 'jobs'} going, and may have {job.max_parallel}"
    return "about to be queued"


def why_skipped(job: JobNode, before: Sequence[JobNode]) -> str:
    """Of a job that ``advance`` skipped. before: all jobs before it, in the order of the file."""
    if job.after == "failure":
        return "nothing before it failed"
    lost = [other for other in before if not _is_good(other)]
    first = next((other for other in lost if other.state != "skipped"), lost[0])
    words = {"error": "ended by an error", "cancelled": "was cancelled", "skipped": "was skipped"}
    return f"{first.name}, which has to succeed before it, {words.get(first.state, first.state)}"


def _listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b, c and 4 more``."""
    shown = [*names[:_NAMED], f"{len(names) - _NAMED} more"] if len(names) > _NAMED + 1 else [*names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _is_good(job: JobNode) -> bool:
    return job.state in ("succeeded", "reused") or (job.state == "failed" and job.may_fail)
