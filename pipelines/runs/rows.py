"""Rows of the database as the structs of ``pipelines.model``."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Select, and_, func, select
from sqlalchemy.engine import Row

from pipelines.model import FIRST_PLACE, BuildOptions, Job, Run, RunResult, Source, Trigger
from pipelines.schema import jobs, runs

_sources = msgspec.json.Decoder(Source)
_options = msgspec.json.Decoder(BuildOptions)
_names = msgspec.json.Decoder(tuple[str, ...])
_triggers = msgspec.json.Decoder(Trigger)
_results = msgspec.json.Decoder(RunResult)


_OF_RUNS: Final = (
    runs.c.number, runs.c.project, runs.c.state, runs.c.priority, runs.c.source, runs.c.trigger, runs.c.domain,
    runs.c.created_at, runs.c.finished_at, runs.c.cancelled_by, runs.c.superseded_by,
)  # fmt: skip
_OF_THEIR_JOBS: Final = (
    jobs.c.spec, jobs.c.attempt, jobs.c.max_attempts, jobs.c.worker, jobs.c.worker_labels, jobs.c.cancel_requested,
    jobs.c.queued_at, jobs.c.started_at, func.coalesce(func.nullif(runs.c.reason, ""), jobs.c.reason).label("reason"),
    jobs.c.result, jobs.c.lines, jobs.c.log_bytes,
    jobs.c.own_secrets,
)  # fmt: skip
_OF_JOBS: Final = (
    jobs.c.number, jobs.c.run, jobs.c.state, jobs.c.attempt, jobs.c.max_attempts, jobs.c.cancel_requested,
    jobs.c.reason, jobs.c.lines,
)  # fmt: skip


def select_runs() -> Select[Any]:
    """Runs with their first jobs, for ``run_from_row``. Conditions on both tables may be added."""
    # An outer join, though no run lacks its job: SQLite would read all jobs first to list a few runs in their order.
    first = and_(jobs.c.run == runs.c.number, jobs.c.place == FIRST_PLACE)
    return select(*_OF_RUNS, *_OF_THEIR_JOBS).select_from(runs.outerjoin(jobs, first))


def select_jobs() -> Select[Any]:
    """Jobs, for ``job_from_row``."""
    return select(*_OF_JOBS)


def job_from_row(row: Row[Any]) -> Job:
    """A row of ``select_jobs``."""
    return Job(
        row.number, row.run, row.state, row.attempt, row.max_attempts, row.cancel_requested, row.reason, row.lines
    )


def was_entered(row: Any) -> bool:
    """Whether somebody had a shell in a job while it ran. row: with the job's ``attempt`` and ``entered``."""
    return bool(row.entered) and row.entered == row.attempt


def run_from_row(row: Row[Any]) -> Run:
    """A row of ``select_runs``."""
    return Run(
        number=row.number,
        project=row.project,
        state=row.state,
        priority=row.priority,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        worker=row.worker,
        cancel_requested=row.cancel_requested,
        source=_sources.decode(row.source),
        options=_options.decode(row.spec),
        worker_labels=_names.decode(row.worker_labels),
        created_at=row.created_at,
        queued_at=row.queued_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        reason=row.reason,
        result=_results.decode(row.result) if row.result else None,
        lines=row.lines,
        log_bytes=row.log_bytes,
        own_secrets=_names.decode(row.own_secrets),
        trigger=_triggers.decode(row.trigger),
        domain=row.domain,
        cancelled_by=row.cancelled_by,
        superseded_by=row.superseded_by,
    )
