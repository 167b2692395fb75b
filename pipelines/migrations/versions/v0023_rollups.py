"""Roll-ups of the runs that there are, and what users chose for themselves.

What ``pipelines.runs.rollups`` writes from now on as runs end is made here once, of the runs that have ended.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

revision = "0023"
down_revision = "0022"

_FINAL = ("succeeded", "warnings", "failed", "cancelled", "error")
_SUMS = ("succeeded", "failed", "errors", "cancelled", "steps", "reused")
_BATCH = 2000
_Days: TypeAlias = dict[tuple[str, int], dict[str, float]]
_Times: TypeAlias = dict[tuple[str, int, int], int]


def upgrade() -> None:
    op.add_column("runs", sa.Column("is_counted", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "project_days",
        sa.Column("project", sa.String(100), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _SUMS),
        sa.Column("waited_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "day"),
    )
    op.create_table(
        "project_day_times",
        sa.Column("project", sa.String(100), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "day", "bucket"),
    )
    op.create_table(
        "heads",
        sa.Column("project", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "kind", "name"),
    )
    op.create_index("heads_by_run", "heads", ["run"], unique=False)
    op.create_table(
        "user_settings",
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("chosen", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["users.name"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user"),
    )
    _count(op.get_bind())


def _count(connection: Connection) -> None:
    days: _Days = {}
    times: _Times = {}
    refs: dict[tuple[str, str, str], int] = {}
    reused = {row.run: (row.done, row.reused) for row in connection.execute(sa.text(_JOBS))}
    for row in _runs(connection):
        ref = _ref(json.loads(row.trigger))
        if ref is not None:
            refs[row.project, *ref] = row.number
        if row.state in _FINAL:
            _add(row, days, times, *reused.get(row.number, (0, 0)))
    connection.execute(
        sa.text("UPDATE runs SET is_counted = :yes WHERE state IN :final").bindparams(
            sa.bindparam("final", _FINAL, expanding=True)
        ),
        {"yes": True},
    )
    _insert(connection, "heads", ("project", "kind", "name", "run"), [(*key, run) for key, run in refs.items()])
    sums = (*_SUMS, "waited_s")
    _insert(
        connection, "project_days", ("project", "day", *sums),
        [(*key, *(day[name] for name in sums)) for key, day in days.items()],
    )  # fmt: skip
    columns = ("project", "day", "bucket", "runs")
    _insert(connection, "project_day_times", columns, [(*key, count) for key, count in times.items()])


_JOBS = """SELECT run, count(*) AS done, sum(CASE WHEN state = 'reused' THEN 1 ELSE 0 END) AS reused
FROM jobs WHERE kind = 'job' AND state IN ('succeeded', 'failed', 'reused') GROUP BY run"""
_RUNS = """SELECT r.number, r.project, r.state, r.trigger, r.created_at, r.finished_at, j.started_at, j.result
FROM runs r LEFT JOIN jobs j ON j.run = r.number AND j.place = 1
WHERE r.number > :after ORDER BY r.number LIMIT :many"""


def _runs(connection: Connection) -> Iterator[Any]:
    """All runs, the oldest first, some at a time."""
    after = 0
    while rows := connection.execute(sa.text(_RUNS), {"after": after, "many": _BATCH}).all():
        yield from rows
        after = rows[-1].number


def _ref(trigger: dict[str, Any]) -> tuple[str, str] | None:
    if trigger.get("pull_request"):
        return "pull", str(trigger["pull_request"])
    if trigger.get("tag"):
        return "tag", trigger["tag"][:255]
    return ("branch", trigger["branch"][:255]) if trigger.get("branch") else None


def _add(
    row: Any,
    days: _Days,
    times: _Times,
    done: int,
    reused: int,
) -> None:
    ended = row.finished_at or row.created_at
    key = row.project, int(ended // 86400)
    day = days.setdefault(key, {**dict.fromkeys(_SUMS, 0), "waited_s": 0.0})
    if row.state == "cancelled" or row.started_at is None:
        day["cancelled"] += row.state == "cancelled"
        return
    day[{"warnings": "succeeded", "error": "errors"}.get(row.state, row.state)] += 1
    result = json.loads(row.result) if row.result else {}
    cached = result.get("cached", 0)
    day["steps"] += result.get("executed", 0) + cached + done
    day["reused"] += cached + reused
    day["waited_s"] += max(0.0, row.started_at - row.created_at)
    bucket = min(200, max(0, math.ceil(math.log(max(ended - row.started_at, 0.05) / 0.05) / math.log(1.1))))
    times[*key, bucket] = times.get((*key, bucket), 0) + 1


def _insert(connection: Connection, table: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    values = ", ".join(f":{name}" for name in columns)
    statement = sa.text(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})")  # noqa: S608 - the names are ours
    for at in range(0, len(rows), _BATCH):
        connection.execute(statement, [dict(zip(columns, row, strict=True)) for row in rows[at : at + _BATCH]])
