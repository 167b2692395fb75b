"""Totals over runs: those that exist, and in the table of counters those that were removed.

``remember`` adds runs to that table as they go, so that no total ever falls.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from sqlalchemy import and_, func, insert, not_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ColumnElement

from pipelines.model import FINAL_STATES
from pipelines.schema import counters, jobs, runs, steps

ENDED: Final = "ended."
"""The prefix, before the state, of the counters of runs by their final state."""

# No cache answers for a FROM, nor for the builder's own steps, which have no line in the Dockerfile.
_IS_FROM: Final = and_(steps.c.name.like("[%] FROM %"), steps.c.name.regexp_match(r"^\[[^]]*\] FROM "))
_CACHEABLE: Final = (steps.c.line > 0, not_(_IS_FROM))


def remember(connection: Connection, *which: ColumnElement[bool]) -> None:
    """Add the runs ``which`` to the totals: this transaction removes them."""
    for name, value in _sums(connection, *which).items():
        if value:
            add(connection, name, value)


def add(connection: Connection, name: str, value: float) -> None:
    """Count ``value`` more under a name, for good."""
    changed = update(counters).where(counters.c.name == name).values(value=counters.c.value + value)
    if not connection.execute(changed).rowcount:
        connection.execute(insert(counters).values(name=name, value=value))


def _sums(connection: Connection, *which: ColumnElement[bool]) -> dict[str, float]:
    """The sums over these runs; over all runs where nothing is said."""
    by_state = counted(connection, runs.c.state, *which)
    of_these = jobs.c.run.in_(select(runs.c.number).where(*which))
    by_step = counted(connection, steps.c.state, steps.c.job.in_(select(jobs.c.number).where(of_these)), *_CACHEABLE)
    wait_s, wait_count = _summed(connection, jobs.c.started_at - jobs.c.queued_at, of_these)
    run_s, run_count = _summed(connection, jobs.c.finished_at - jobs.c.started_at, of_these)
    return {
        **{f"{ENDED}{state}": by_state.get(state, 0) for state in FINAL_STATES},
        "wait_s": wait_s,
        "wait_count": wait_count,
        "run_s": run_s,
        "run_count": run_count,
        "cache_hits": by_step.get("cached", 0),
        "cache_misses": by_step.get("done", 0) + by_step.get("failed", 0),
    }


def totals(connection: Connection) -> Counter[str]:
    """The sums over all runs, removed ones too."""
    removed = {row.name: row.value for row in connection.execute(select(counters))}
    return Counter(_sums(connection)) + Counter(removed)


def counted(connection: Connection, column: Any, *which: ColumnElement[bool]) -> dict[str, int]:
    """How many rows there are, by their value in ``column``."""
    found = connection.execute(select(column, func.count()).where(*which).group_by(column))
    return {row[0]: row[1] for row in found}


def _summed(connection: Connection, duration: Any, *which: ColumnElement[bool]) -> tuple[float, int]:
    total, count = connection.execute(select(func.sum(duration), func.count(duration)).where(*which)).one()
    return max(0.0, float(total or 0.0)), int(count)  # no negative time from a clock that was set back
