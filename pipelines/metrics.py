"""The numbers that operators watch, as the database has them now; ``web`` gives them to Prometheus.

Totals count runs that were removed, too; see ``pipelines.counters``. How many runs there are makes no difference.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from pipelines.counters import ENDED, REMOVED, add, counted, totals
from pipelines.model import FINAL_STATES
from pipelines.schema import jobs, runs

if TYPE_CHECKING:
    from pipelines.database import Database
    from pipelines.service import Service

CacheWritten: TypeAlias = Literal["written", "unchanged", "failed", "dropped"]
_CACHE: Final = "cache."
_GOING: Final = ("queued", "running", "blocked")
_MOST_LABELS: Final = 200  # sets of labels: files name them


class Waiting(msgspec.Struct, frozen=True):
    """Jobs that wait for workers of the same labels.

    labels: with commas between. oldest_s: how long the first has waited.
    """

    labels: str
    count: int
    oldest_s: float


class Metrics(msgspec.Struct, frozen=True):
    """A service in numbers, as the database has them now.

    queue_depth, running, runs_by_state, workers_by_state: gauges; states of those runs that are kept.
    waiting: jobs that a worker may take, by the labels that it has to have.
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
    waiting: tuple[Waiting, ...] = ()


def snapshot(service: Service) -> Metrics:
    """The numbers as of now. Raises DatabaseUnreachableError."""
    with service.database.read_one_moment() as connection:  # a run that ends now is in one of the sums, never in none
        by_state = counted(connection, runs.c.state, runs.c.state.in_(_GOING))
        waiting = _waiting(connection, time.time())
        total = totals(connection)
    for state in FINAL_STATES:
        if kept := int(total[f"{ENDED}{state}"] - total[f"{REMOVED}{state}"]):
            by_state[state] = kept
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
        waiting=waiting,
        cache_written={outcome: int(total[f"{_CACHE}{outcome}"]) for outcome in get_args(CacheWritten)},
    )


def _waiting(connection: Connection, now: float) -> tuple[Waiting, ...]:
    found: dict[str, Waiting] = {}
    columns = (jobs.c.worker_labels, func.count(), func.min(jobs.c.queued_at))
    wanted = select(*columns).where(jobs.c.state == "queued", jobs.c.not_before <= now)
    wanted = wanted.group_by(jobs.c.worker_labels).order_by(func.min(jobs.c.queued_at)).limit(_MOST_LABELS)
    for told, count, first_at in connection.execute(wanted):
        labels = ",".join(sorted(msgspec.json.decode(told)))
        before = found.get(labels, Waiting(labels, 0, 0.0))  # the same ones in another order
        found[labels] = Waiting(labels, before.count + count, max(before.oldest_s, now - first_at))
    return tuple(found.values())


def count_cache(database: Database, outcome: CacheWritten) -> None:
    """Count the outcome of writing a run's part of the shared cache. Raises DatabaseUnreachableError."""
    with database.write() as connection:
        add(connection, {f"{_CACHE}{outcome}": 1})
