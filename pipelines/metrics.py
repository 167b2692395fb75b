"""The numbers that operators watch, as the database has them now; ``web`` gives them to Prometheus.

Totals count runs that were removed, too; see ``pipelines.counters``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import msgspec

from pipelines.counters import ENDED, add, counted, totals
from pipelines.model import FINAL_STATES
from pipelines.schema import runs

if TYPE_CHECKING:
    from pipelines.database import Database
    from pipelines.service import Service

CacheWritten: TypeAlias = Literal["written", "unchanged", "failed", "dropped"]
_CACHE: Final = "cache."


class Metrics(msgspec.Struct, frozen=True):
    """A service in numbers, as the database has them now.

    queue_depth, running, runs_by_state, workers_by_state: gauges; states of those runs that are kept.
    The rest are totals since the service began.
    wait_s, wait_count: from queued to started.
    run_s, run_count: from started to finished.
    cache_hits: steps that the cache answered.
    cache_misses: steps that ran although the cache could have answered them.
    cache_written: what became of runs' parts of the shared cache.
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
    """The numbers as of now. Raises DatabaseUnreachableError."""
    with service.database.read() as connection:
        by_state = counted(connection, runs.c.state)
        total = totals(connection)
    return Metrics(
        queue_depth=by_state.get("queued", 0),
        running=by_state.get("running", 0),
        runs_by_state=by_state,
        ended_by_state={
            state: int(total[f"{ENDED}{state}"])
            for state in sorted(FINAL_STATES)
            if state != "warnings" or total[f"{ENDED}{state}"]  # which builds alone never have
        },
        wait_s=total["wait_s"],
        wait_count=int(total["wait_count"]),
        run_s=total["run_s"],
        run_count=int(total["run_count"]),
        cache_hits=int(total["cache_hits"]),
        cache_misses=int(total["cache_misses"]),
        workers_by_state=dict(Counter(worker.state for worker in service.workers.list())),
        cache_written={outcome: int(total[f"{_CACHE}{outcome}"]) for outcome in get_args(CacheWritten)},
    )


def count_cache(database: Database, outcome: CacheWritten) -> None:
    """Count the outcome of writing a run's part of the shared cache. Raises DatabaseUnreachableError."""
    with database.write() as connection:
        add(connection, f"{_CACHE}{outcome}", 1)
