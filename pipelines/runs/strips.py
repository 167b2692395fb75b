"""The last runs of projects in short, for pages that show many of them: one query, whatever the number of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Select, and_, literal, select, union_all

from pipelines.database import Database
from pipelines.model import FINAL_STATES, FIRST_PLACE, AnyRunState, Trigger
from pipelines.schema import jobs, runs

SHOWN: Final = 20
_AT_ONCE: Final = 100  # SQLite takes 500 parts of a compound query
_SHIPPED: Final = ("push", "tag", "manual", "cron")  # a pull request says nothing about the project itself
_triggers: Final = msgspec.json.Decoder(Trigger)


class Brief(msgspec.Struct, frozen=True):
    """A run in short. duration_s: None for one that has not ended, or that nobody took."""

    number: int
    project: str
    state: AnyRunState
    created_at: float
    finished_at: float | None
    started_at: float | None
    trigger: Trigger

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def duration_s(self) -> float | None:
        if self.finished_at is None or self.started_at is None:
            return None
        return max(0.0, self.finished_at - self.started_at)


class Strip(msgspec.Struct, frozen=True):
    """The last runs of a project, or of one of its refs, the oldest first."""

    runs: tuple[Brief, ...]

    @property
    def newest(self) -> Brief | None:
        return self.runs[-1] if self.runs else None

    @property
    def shown(self) -> Brief | None:
        """The run that stands for the whole: the newest that ended and is no pull request's, nor was cancelled.

        Without such a one: the newest.
        """
        ended = (run for run in reversed(self.runs) if run.is_final and run.state != "cancelled")
        return next((run for run in ended if run.trigger.kind in _SHIPPED), self.newest)

    @property
    def is_failing(self) -> bool:
        shown = self.shown
        return shown is not None and shown.trigger.kind in _SHIPPED and shown.state in ("failed", "error")

    @property
    def usual_s(self) -> float | None:
        """The time that half of the runs that went through took no longer than."""
        times = sorted(
            run.duration_s for run in self.runs if run.duration_s is not None and run.state in ("succeeded", "warnings")
        )
        return times[(len(times) - 1) // 2] if times else None


def strips(database: Database, projects: Sequence[str], limit: int = SHOWN) -> dict[str, Strip]:
    """The last runs of each of these projects."""
    return _strips(database, {name: (runs.c.project == name,) for name in projects}, limit)


def branch_strips(database: Database, project: str, branches: Sequence[str], limit: int = 10) -> dict[str, Strip]:
    """The last runs of branches of a project, without those of pull requests: forks use the same names."""
    is_own = ~runs.c.trigger.contains('"kind":"pull_request"', autoescape=True)  # no text of a trigger has a bare quote
    which = {name: (runs.c.project == project, runs.c.branch == name, is_own) for name in branches}
    return _strips(database, which, limit)


def _strips(database: Database, which: Mapping[str, Sequence[ColumnElement[bool]]], limit: int) -> dict[str, Strip]:
    names = list(which)
    found: dict[str, list[Brief]] = {name: [] for name in names}
    with database.read() as connection:
        for at in range(0, len(names), _AT_ONCE):
            for place, run in _rows(connection, [which[name] for name in names[at : at + _AT_ONCE]], limit):
                found[names[at + place]].append(run)
    return {name: Strip(tuple(sorted(runs, key=lambda run: run.number))) for name, runs in found.items()}


def _rows(connection: Any, which: Sequence[Sequence[ColumnElement[bool]]], limit: int) -> Iterator[tuple[int, Brief]]:
    """The newest of each, with its place."""
    numbers = [_newest(place, conditions, limit) for place, conditions in enumerate(which)]
    chosen = union_all(*numbers).subquery() if len(numbers) > 1 else numbers[0].subquery()
    first = and_(jobs.c.run == runs.c.number, jobs.c.place == FIRST_PLACE)
    columns = (runs.c.number, runs.c.project, runs.c.state, runs.c.created_at, runs.c.finished_at, runs.c.trigger)
    wanted = select(chosen.c.place, *columns, jobs.c.started_at).select_from(
        chosen.join(runs, runs.c.number == chosen.c.number).outerjoin(jobs, first)
    )
    for row in connection.execute(wanted):
        yield (
            row.place,
            Brief(
                row.number, row.project, row.state, row.created_at, row.finished_at, row.started_at,
                _triggers.decode(row.trigger),
            ),
        )  # fmt: skip


def _newest(place: int, conditions: Sequence[ColumnElement[bool]], limit: int) -> Select[Any]:
    newest = select(literal(place).label("place"), runs.c.number.label("number")).where(*conditions)
    return select(newest.order_by(runs.c.number.desc()).limit(limit).subquery())
