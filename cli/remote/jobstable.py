"""The jobs of a run as a table, with why each waits or ended as it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cli.remote.wording import printable, took
from cli.table import table
from pipelines.endings import ended


def jobs_table(jobs: Sequence[dict[str, Any]], now: float) -> str:
    """Jobs as a table. now: seconds since the epoch."""
    rows = [(str(job["place"]), job["name"], job["state"], took(job, now), job["worker"], job_why(job)) for job in jobs]
    return table(("JOB", "NAME", "STATE", "TOOK", "WORKER", "WHY"), rows)


def job_why(job: dict[str, Any]) -> str:
    """Why a job waits, runs or ended as it did, in a line; "" where its state says it."""
    told = printable(job["reason"].partition("\n")[0])
    if job["state"] == "waiting":
        return f"for {', '.join(job['needs'])}"
    if job["state"] == "running":
        return f"being {ended('cancelled', told)}" if told else _again(job)
    if job["state"] == "reused":
        return told or f"the result of run {printable(job['reused_from'])}"
    if job["is_flaky"]:
        return f"flaky: at attempt {job['attempt']}"
    allowed = "allowed to fail" if job["may_fail"] and job["state"] == "failed" else ""
    entered = "somebody had a shell in it" if job.get("was_entered") else ""
    return ": ".join(filter(None, (entered, allowed, told)))


def _again(job: dict[str, Any]) -> str:
    return f"attempt {job['attempt']}" if job["attempt"] > 1 else ""
