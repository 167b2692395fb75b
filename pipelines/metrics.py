"""The numbers that operators watch, as the database has them now; ``web`` gives them to Prometheus.

Totals count runs that were removed, too: ``remember`` adds these to the table of counters as they go, so that
no counter ever falls.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import msgspec
from sqlalchemy import and_, func, insert, not_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement

from pipelines.model import FINAL_STATES
from pipelines.schema import counters, runs, steps

if TYPE_CHECKING:
    from pipelines.database import Database
    from pipelines.service import Service

CacheWritten: TypeAlias = Literal["written", "unchanged", "failed", "dropped"]
_ENDED: Final = "ended."
_CACHE: Final = "cache."
# No cache answers for a FROM, nor for what the builder does on its own account, which has no line in the Dockerfile.
_IS_FROM: Final = and_(steps.c.name.like("[%] FROM %"), steps.c.name.regexp_match(r"^\[[^]]*\] FROM "))
_CACHEABLE: Final = (steps.c.line > 0, not_(_IS_FROM))


class Metrics(msgspec.Struct, frozen=True):
    """Gauges: queue_depth, running, runs_by_state (of those that are kept), workers_by_state. The rest are totals.

    wait: from queued to started; run: from started to finished; in seconds. cache_hits, cache_misses: steps that the
    cache answered, and steps that ran; of those for which it can. cache_written: what became of runs' parts of the
    shared cache.
    """

    queue_depth: int
    running: int
    runs_by_state: dict[str, int]
    ended_by_state: dict[str, int]
    wait_s: float
    wait_count: int
    run_s: float
    run_count: int
    cache_hits: int
    cache_misses: int
    workers_by_state: dict[str, int]
    cache_written: dict[str, int]


def snapshot(service: Service) -> Metrics:
    """Raises DatabaseUnreachableError."""
    with service.database.read() as connection:
        by_state = _counted(connection, runs.c.state)
        totals = Counter(_totals(connection)) + Counter(_remembered(connection))
    return Metrics(
        queue_depth=by_state.get("queued", 0),
        running=by_state.get("running", 0),
        runs_by_state=by_state,
        ended_by_state={state: int(totals[f"{_ENDED}{state}"]) for state in sorted(FINAL_STATES)},
        wait_s=totals["wait_s"],
        wait_count=int(totals["wait_count"]),
        run_s=totals["run_s"],
        run_count=int(totals["run_count"]),
        cache_hits=int(totals["cache_hits"]),
        cache_misses=int(totals["cache_misses"]),
        workers_by_state=dict(Counter(worker.state for worker in service.workers.list())),
        cache_written={outcome: int(totals[f"{_CACHE}{outcome}"]) for outcome in get_args(CacheWritten)},
    )


def count_cache(database: Database, outcome: CacheWritten) -> None:
    """A run's part of the shared cache came to this. Raises DatabaseUnreachableError."""
    with database.write() as connection:
        _add(connection, f"{_CACHE}{outcome}", 1)


def remember(connection: Connection, *which: ColumnElement[bool]) -> None:
    """Count what the runs ``which`` add to the totals: this transaction removes them."""
    for name, value in _totals(connection, *which).items():
        if value:
            _add(connection, name, value)


def _add(connection: Connection, name: str, value: float) -> None:
    changed = update(counters).where(counters.c.name == name).values(value=counters.c.value + value)
    if not connection.execute(changed).rowcount:
        connection.execute(insert(counters).values(name=name, value=value))


def _totals(connection: Connection, *which: ColumnElement[bool]) -> dict[str, float]:
    """What these runs add up to; all runs where nothing is said."""
    by_state = _counted(connection, runs.c.state, *which)
    of_these = steps.c.run.in_(select(runs.c.number).where(*which))
    by_step = _counted(connection, steps.c.state, of_these, *_CACHEABLE)
    wait_s, wait_count = _summed(connection, runs.c.started_at - runs.c.queued_at, *which)
    run_s, run_count = _summed(connection, runs.c.finished_at - runs.c.started_at, *which)
    return {
        **{f"{_ENDED}{state}": by_state.get(state, 0) for state in FINAL_STATES},
        "wait_s": wait_s,
        "wait_count": wait_count,
        "run_s": run_s,
        "run_count": run_count,
        "cache_hits": by_step.get("cached", 0),
        "cache_misses": by_step.get("done", 0) + by_step.get("failed", 0),
    }


def _remembered(connection: Connection) -> dict[str, float]:
    return {row.name: row.value for row in connection.execute(select(counters))}


def _counted(connection: Connection, column: Any, *which: ColumnElement[bool]) -> dict[str, int]:
    found = connection.execute(select(column, func.count()).where(*which).group_by(column))
    return {row[0]: row[1] for row in found}


def _summed(connection: Connection, duration: Any, *which: ColumnElement[bool]) -> tuple[float, int]:
    total, count = connection.execute(select(func.sum(duration), func.count(duration)).where(*which)).one()
    return max(0.0, float(total or 0.0)), int(count)  # a clock that was set back makes no negative time
