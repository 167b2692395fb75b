"""The totals of ``/metrics`` are kept as runs end: those of the runs that have ended are made here once.

The counters had the runs that were removed; they are kept apart by state, for what is left is the difference.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

revision = "0030"
down_revision = "0029"

_RUNS = sa.table("runs", sa.column("number"), sa.column("state"), sa.column("is_counted", sa.Boolean))
_JOBS = sa.table(
    "jobs", *(sa.column(name) for name in ("number", "run")),
    *(sa.column(name, sa.Float) for name in ("queued_at", "started_at", "finished_at")),
)  # fmt: skip
_STEPS = sa.table("steps", sa.column("job"), sa.column("state"), sa.column("line"), sa.column("name", sa.Text))
_COUNTERS = sa.table("counters", sa.column("name", sa.String), sa.column("value", sa.Float))


def upgrade() -> None:
    op.create_index(
        "runs_uncounted", "runs", ["number"], unique=False,
        sqlite_where=sa.text("is_counted IS 0"), postgresql_where=sa.text("is_counted IS false"),
    )  # fmt: skip
    _count(op.get_bind())


def _count(connection: Connection) -> None:
    removed = {row.name: row.value for row in connection.execute(sa.select(_COUNTERS))}
    found = _of_ended(connection)
    values = {name: removed.get(name, 0.0) + found.get(name, 0.0) for name in {*removed, *found}}
    for name, value in removed.items():
        if name.startswith("ended."):
            values[f"removed.{name.removeprefix('ended.')}"] = value
    connection.execute(sa.delete(_COUNTERS))
    rows = [{"name": name, "value": value} for name, value in sorted(values.items()) if value]
    if rows:
        connection.execute(sa.insert(_COUNTERS), rows)


def _of_ended(connection: Connection) -> dict[str, float]:
    its = sa.select(_RUNS.c.number).where(_RUNS.c.is_counted.is_(True))
    states = sa.select(_RUNS.c.state, sa.func.count().label("times")).where(_RUNS.c.is_counted.is_(True))
    found = {f"ended.{row.state}": float(row.times) for row in connection.execute(states.group_by(_RUNS.c.state))}
    waited = _lasted(_JOBS.c.queued_at, _JOBS.c.started_at)
    took = _lasted(_JOBS.c.started_at, _JOBS.c.finished_at)
    sums = sa.select(sa.func.sum(waited), sa.func.count(waited), sa.func.sum(took), sa.func.count(took))
    row = connection.execute(sums.where(_JOBS.c.run.in_(its), _JOBS.c.finished_at.is_not(None))).one()
    for name, value in zip(("wait_s", "wait_count", "run_s", "run_count"), row, strict=True):
        found[name] = float(value or 0)
    is_from = sa.and_(_STEPS.c.name.like("[%] FROM %"), _STEPS.c.name.regexp_match(r"^\[[^]]*\] FROM "))
    of_these = _STEPS.c.job.in_(sa.select(_JOBS.c.number).where(_JOBS.c.run.in_(its)))
    steps = sa.select(_STEPS.c.state, sa.func.count().label("times")).where(of_these, _STEPS.c.line > 0)
    steps = steps.where(sa.not_(is_from)).group_by(_STEPS.c.state)
    by_step = {row.state: float(row.times) for row in connection.execute(steps)}
    found["cache_hits"] = by_step.get("cached", 0.0)
    found["cache_misses"] = by_step.get("done", 0.0) + by_step.get("failed", 0.0)
    return found


def _lasted(begin: sa.ColumnElement[float], end: sa.ColumnElement[float]) -> sa.ColumnElement[float]:
    return sa.case((end < begin, 0.0), else_=end - begin)
