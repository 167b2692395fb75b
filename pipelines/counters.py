"""Totals over all runs that there ever were, in the table of counters.

A run is added to them once, by the transaction of its first end (``pipelines.runs.rollups``); its removal takes nothing
back. What runs that have not ended did so far comes on top. Whatever counts here only grows, so no total ever falls:
not when a job is tried again, not when old runs are removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import and_, case, delete, func, not_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement

from pipelines.schema import counters, jobs, runs, steps

ENDED: Final = "ended."
"""The prefix, before the state, of the counters of runs by their final state."""

REMOVED: Final = "removed."
"""The prefix, before the state, of the counters of those among them that were removed."""

# No cache answers for a FROM, nor for the builder's own steps, which have no line in the Dockerfile.
_IS_FROM: Final = and_(steps.c.name.like("[%] FROM %"), steps.c.name.regexp_match(r"^\[[^]]*\] FROM "))
_CACHEABLE: Final = (steps.c.line > 0, not_(_IS_FROM))
_UNCOUNTED: Final = runs.c.is_counted.is_(False)
_HITS: Final = ("cached",)
_MISSES: Final = ("done", "failed")


def count_run(connection: Connection, number: int) -> None:
    """Add a run that has ended to the totals; the caller makes sure that this happens once.

    Among the last statements of the transaction: until its end, whoever ends another run waits.
    """
    add(connection, _sums(connection, runs.c.number == number))


def remove_runs(connection: Connection, *which: ColumnElement[bool]) -> int:
    """Remove runs that have ended, and count how many of each state go. Returns how many these are."""
    missed = _sums(connection, _UNCOUNTED, *which)
    gone = Counter(connection.execute(delete(runs).where(*which).returning(runs.c.state)).scalars())
    add(connection, {**missed, **{f"{REMOVED}{state}": count for state, count in gone.items()}})
    return gone.total()


def add(connection: Connection, values: Mapping[str, float]) -> None:
    """Count so much more under these names, for good.

    All transactions take the rows in the same order, so no two wait in a circle.
    """
    rows = [{"name": name, "value": value} for name, value in sorted(values.items()) if value]
    if not rows:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    more = insert(counters).values(rows)
    more = more.on_conflict_do_update(index_elements=["name"], set_={"value": counters.c.value + more.excluded.value})
    connection.execute(more)


def totals(connection: Connection) -> Counter[str]:
    """The sums over all runs, removed ones and those that have not ended, too."""
    known = {row.name: row.value for row in connection.execute(select(counters))}
    return Counter(_sums(connection, _UNCOUNTED)) + Counter(known)


def counted(connection: Connection, column: Any, *which: ColumnElement[bool]) -> dict[str, int]:
    """How many rows there are, by their value in ``column``."""
    found = connection.execute(select(column, func.count()).where(*which).group_by(column))
    return {row[0]: row[1] for row in found}


def _sums(connection: Connection, *which: ColumnElement[bool]) -> dict[str, float]:
    """The sums over these runs: of their states where they have ended, of jobs that have ended, and of steps."""
    states = select(runs.c.state).where(runs.c.finished_at.is_not(None), *which)  # grouped, SQLite would read all runs
    by_state = Counter(connection.execute(states).scalars())
    of_these = jobs.c.run.in_(select(runs.c.number).where(*which))
    by_step = counted(connection, steps.c.state, steps.c.job.in_(select(jobs.c.number).where(of_these)), *_CACHEABLE)
    waited, took = _lasted(jobs.c.queued_at, jobs.c.started_at), _lasted(jobs.c.started_at, jobs.c.finished_at)
    sums = select(func.sum(waited), func.count(waited), func.sum(took), func.count(took))
    row = connection.execute(sums.where(of_these, jobs.c.finished_at.is_not(None))).one()
    wait_s, wait_count, run_s, run_count = row
    return {
        **{f"{ENDED}{state}": count for state, count in by_state.items()},
        "wait_s": float(wait_s or 0.0),
        "wait_count": wait_count,
        "run_s": float(run_s or 0.0),
        "run_count": run_count,
        "cache_hits": sum(by_step.get(state, 0) for state in _HITS),
        "cache_misses": sum(by_step.get(state, 0) for state in _MISSES),
    }


def _lasted(begin: Any, end: Any) -> ColumnElement[float]:
    """The time between; NULL where either is missing. A clock that was set back makes no negative time."""
    return case((end < begin, 0.0), else_=end - begin)
