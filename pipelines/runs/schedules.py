"""When pipelines run by themselves: rows that planning the default branch makes, and whoever starts a run moves on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from ci.cron import CronError, next_times, parse_cron, zone_of
from ci.model import Schedule
from pipelines.database import Database
from pipelines.schema import schedules

MADE_UP_FOR_S: Final = 3600.0
"""A time that nobody could start a run at is made up for within an hour; of several that were missed the last one."""

_SHOWN: Final = 3
_AT_ONCE: Final = 100
_NEVER: Final = 1e12


class ScheduleView(msgspec.Struct, frozen=True):
    """A time at which a pipeline of a project runs.

    branch: whose head and file are taken; empty: the default one.
    next: three times, in seconds since the epoch.
    last_run: that it started; null: none yet.
    """

    pipeline: str
    at: str
    zone: str
    branch: str
    next: tuple[float, ...]
    last_run: int | None


class Due(NamedTuple):
    """A time that has come. is_late: too late to be made up for."""

    project: str
    pipeline: str
    branch: str
    is_late: bool


def write_schedules(
    connection: Connection, project: str, run: int, found: Mapping[str, Sequence[Schedule] | None], now: float
) -> None:
    """Write down the times of all pipelines of a project's default branch.

    run: that looked at its commit; what a later one found stays.
    found: by pipeline; None: its file is wrong, and what it said before counts on.
    """
    newest = select(func.max(schedules.c.found_by)).where(schedules.c.project == project)
    if (connection.execute(newest).scalar() or 0) > run:
        return
    kept = [name for name, times in found.items() if times is None]
    its = and_(schedules.c.project == project, schedules.c.pipeline.not_in(kept))
    known = {
        (row.pipeline, row.at, row.zone, row.branch): row
        for row in connection.execute(select(schedules).where(its).with_for_update())
    }
    connection.execute(delete(schedules).where(its))
    rows = []
    for name, times in found.items():
        for place, each in enumerate(dict.fromkeys(times or ())):
            before = known.get((name, str(each.at), str(each.zone), str(each.branch)))
            rows.append(
                {
                    "project": project, "pipeline": name, "place": place, "found_by": run,
                    "at": str(each.at), "zone": str(each.zone), "branch": str(each.branch),
                    "due_at": _next(str(each.at), str(each.zone), now) if before is None else before.due_at,
                    "last_run": None if before is None else before.last_run,
                }
            )  # fmt: skip
    if rows:
        connection.execute(insert(schedules), rows)


class Schedules:
    """The times of all projects. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def list(self, project: str) -> Sequence[ScheduleView]:
        """By pipeline, in the order of the file."""
        order = (schedules.c.pipeline, schedules.c.place)
        with self._database.read() as connection:
            rows = connection.execute(select(schedules).where(schedules.c.project == project).order_by(*order)).all()
        now = self._clock()
        return [
            ScheduleView(
                row.pipeline, row.at, row.zone, row.branch,
                tuple(islice(_times(row.at, row.zone, now), _SHOWN)), row.last_run,
            )
            for row in rows
        ]  # fmt: skip

    def due(self) -> Sequence[tuple[str, str, int, float]]:
        """The keys of rows whose time has come, with that time."""
        columns = (schedules.c.project, schedules.c.pipeline, schedules.c.place, schedules.c.due_at)
        wanted = select(*columns).where(schedules.c.due_at <= self._clock()).order_by(schedules.c.due_at)
        with self._database.read() as connection:
            return [(row.project, row.pipeline, row.place, row.due_at) for row in connection.execute(wanted)][:_AT_ONCE]

    @contextmanager
    def taken(self, project: str, pipeline: str, place: int, due_at: float) -> Iterator[tuple[Connection, Due] | None]:
        """Have a time that has come for oneself: a transaction in which the run is made. None: somebody else has it.

        If the transaction fails, the time is still due.
        """
        now = self._clock()
        this = and_(
            schedules.c.project == project, schedules.c.pipeline == pipeline, schedules.c.place == place,
            schedules.c.due_at == due_at,
        )  # fmt: skip
        with self._database.write() as connection:
            row = connection.execute(select(schedules.c.at, schedules.c.zone, schedules.c.branch).where(this)).first()
            following = _next(row.at, row.zone, now) if row is not None else _NEVER
            moved = connection.execute(update(schedules).where(this).values(due_at=following))
            if row is None or moved.rowcount != 1:
                yield None
                return
            newest = due_at if now - due_at <= MADE_UP_FOR_S else _next(row.at, row.zone, now - MADE_UP_FOR_S)
            yield connection, Due(project, pipeline, row.branch, is_late=newest > now)

    @staticmethod
    def note_run(connection: Connection, project: str, pipeline: str, place: int, run: int) -> None:
        """In that transaction: this run was made."""
        this = and_(
            schedules.c.project == project, schedules.c.pipeline == pipeline, schedules.c.place == place
        )  # fmt: skip
        connection.execute(update(schedules).where(this).values(last_run=run))


def _next(at: str, zone: str, now: float) -> float:
    return next(_times(at, zone, now), _NEVER)


def _times(at: str, zone: str, now: float) -> Iterator[float]:
    """None for what this machine cannot read: another release wrote it, or its time zones are others."""
    try:
        yield from next_times(parse_cron(at), zone_of(zone), now)
    except CronError:
        return
