"""The numbers that operators watch, as the database has them now; ``web`` gives them to Prometheus."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from pipelines.schema import runs, steps
from pipelines.service import Service


class Metrics(msgspec.Struct, frozen=True):
    """Of all runs that are kept. wait: from queued to started; run: from started to finished; in seconds.

    cache_hits, cache_misses: steps that the cache answered, and steps that ran.
    """

    queue_depth: int
    running: int
    runs_by_state: dict[str, int]
    wait_s: float
    wait_count: int
    run_s: float
    run_count: int
    cache_hits: int
    cache_misses: int
    workers_by_state: dict[str, int]


def snapshot(service: Service) -> Metrics:
    """Raises DatabaseUnreachableError."""
    with service.database.read() as connection:
        by_state = _counted(connection, runs.c.state)
        by_step = _counted(connection, steps.c.state)
        wait_s, wait_count = _summed(connection, runs.c.started_at - runs.c.queued_at)
        run_s, run_count = _summed(connection, runs.c.finished_at - runs.c.started_at)
    return Metrics(
        queue_depth=by_state.get("queued", 0),
        running=by_state.get("running", 0),
        runs_by_state=by_state,
        wait_s=wait_s,
        wait_count=wait_count,
        run_s=run_s,
        run_count=run_count,
        cache_hits=by_step.get("cached", 0),
        cache_misses=by_step.get("done", 0) + by_step.get("failed", 0),
        workers_by_state=dict(Counter(worker.state for worker in service.workers.list())),
    )


def _counted(connection: Connection, column: Any) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(select(column, func.count()).group_by(column))}


def _summed(connection: Connection, duration: Any) -> tuple[float, int]:
    total, count = connection.execute(select(func.sum(duration), func.count(duration))).one()
    return max(0.0, float(total or 0.0)), int(count)  # a clock that was set back makes no negative time
