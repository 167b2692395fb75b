"""How a project's runs went: the state for its badge, and the figures for its chart."""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import select

from pipelines.database import Database
from pipelines.model import FINAL_STATES, AnyRunState, Trigger
from pipelines.runs.rows import run_from_row, select_runs
from pipelines.schema import jobs, runs

_LOOKED_AT: Final = 50
_triggers: Final = msgspec.json.Decoder(Trigger)
_SHIPPED: Final = ("push", "tag", "manual", "cron")  # a pull request says nothing about the project itself


class Point(msgspec.Struct, frozen=True):
    """One run that has ended. duration_s: from its start to its end. executed, cached: steps."""

    number: int
    state: AnyRunState
    started_at: float
    duration_s: float
    executed: int
    cached: int
    trigger: Trigger

    @property
    def hit_rate(self) -> float | None:
        """The part of the steps that the cache answered, 0 … 1; None where there were none."""
        steps = self.executed + self.cached
        return self.cached / steps if steps else None


def history(database: Database, project: str, *, branch: str | None = None, limit: int = 60) -> list[Point]:
    """The newest runs that started and ended, the oldest of them first."""
    wanted = select_runs().where(
        runs.c.project == project, runs.c.state.in_(FINAL_STATES), jobs.c.started_at.is_not(None)
    )
    if branch is not None:
        wanted = wanted.where(runs.c.branch == branch)
    with database.read() as connection:
        found = [run_from_row(row) for row in connection.execute(wanted.order_by(runs.c.number.desc()).limit(limit))]
    points = []
    for run in reversed(found):
        started, ended, result = run.started_at or 0.0, run.finished_at or 0.0, run.result
        executed, cached = (result.executed, result.cached) if result else (0, 0)
        points.append(Point(run.number, run.state, started, max(0.0, ended - started), executed, cached, run.trigger))
    return points


class Newest(msgspec.Struct, frozen=True):
    """A run that stands for its project."""

    number: int
    state: AnyRunState
    created_at: float
    trigger: Trigger


def newest(database: Database, project: str, *, branch: str | None = None) -> Newest | None:
    """The newest run that is no pull request's. One that still runs or waits counts only if there is no other.

    None: there was none.
    """
    columns = (runs.c.number, runs.c.state, runs.c.created_at, runs.c.trigger)
    wanted = select(*columns).where(runs.c.project == project, runs.c.state != "cancelled")
    if branch is not None:
        wanted = wanted.where(runs.c.branch == branch)
    with database.read() as connection:
        found = connection.execute(wanted.order_by(runs.c.number.desc()).limit(_LOOKED_AT)).all()
    triggered = ((row, _triggers.decode(row.trigger)) for row in found)
    shipped = [
        Newest(row.number, row.state, row.created_at, trigger) for row, trigger in triggered if trigger.kind in _SHIPPED
    ]
    ended = (run for run in shipped if run.state in FINAL_STATES)
    return next(ended, shipped[0] if shipped else None)
