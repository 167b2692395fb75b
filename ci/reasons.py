"""Why a job was skipped, in words."""

from __future__ import annotations

from collections.abc import Sequence

from ci.graph import JobNode


def why_skipped(job: JobNode, before: Sequence[JobNode]) -> str:
    """Of a job that ``advance`` skipped. before: all jobs before it, in the order of the file."""
    if job.after == "failure":
        return "nothing before it failed"
    lost = [other for other in before if not _is_good(other)]
    first = next((other for other in lost if other.state != "skipped"), lost[0])
    words = {"error": "ended by an error", "cancelled": "was cancelled", "skipped": "was skipped"}
    return f"{first.name}, which has to succeed before it, {words.get(first.state, first.state)}"


def _is_good(job: JobNode) -> bool:
    return job.state in ("succeeded", "reused") or (job.state == "failed" and job.may_fail)
