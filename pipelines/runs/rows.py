"""Rows of the database as the structs of ``pipelines.model``."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy.engine import Row

from pipelines.model import BuildOptions, Run, RunResult, Source, Trigger

_sources = msgspec.json.Decoder(Source)
_options = msgspec.json.Decoder(BuildOptions)
_names = msgspec.json.Decoder(tuple[str, ...])
_triggers = msgspec.json.Decoder(Trigger)
_results = msgspec.json.Decoder(RunResult)


def run_from_row(row: Row[Any]) -> Run:
    """A whole row of ``schema.runs``."""
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
        options=_options.decode(row.options),
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
