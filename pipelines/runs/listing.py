"""Lists of runs as people look for them: filtered, searched, in pages that go both ways."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
from sqlalchemy import ColumnElement, Select, func, or_, select

from pipelines.database import Database
from pipelines.model import FINAL_STATES, AnyRunState, Run
from pipelines.runs.rows import run_from_row, select_runs
from pipelines.runs.shares import SharedOrder
from pipelines.schema import jobs, runs

StateGroup: TypeAlias = Literal["active", "queued", "running", "blocked", "succeeded", "failed", "cancelled"]
GROUPS: Final[dict[StateGroup, tuple[AnyRunState, ...]]] = {
    "active": ("queued", "running", "blocked"),
    "queued": ("queued",),
    "running": ("running",),
    "blocked": ("blocked",),
    "succeeded": ("succeeded", "warnings"),
    "failed": ("failed", "error"),
    "cancelled": ("cancelled",),
}
_DIGITS: Final = 10  # longer than any run's number
assert tuple(GROUPS) == get_args(StateGroup)


class RunFilter(msgspec.Struct, frozen=True):
    """What a list of runs is to show; empty members want everything.

    branch: exactly.
    by: who started it, exactly.
    text: anywhere in what started it, its source, its image names; or its number.
    """

    project: str = ""
    state: StateGroup | None = None
    branch: str = ""
    by: str = ""
    text: str = ""


class RunPage(msgspec.Struct, frozen=True):
    """One page of a list of runs.

    runs: the newest first.
    newer, older: the number from which the neighbouring page goes on; None: there is no such page.
    """

    runs: Sequence[Run]
    newer: int | None
    older: int | None


class Listing:
    """Lists of runs. Thread-safe. order: of what waits. explain: adds to queued runs why they wait."""

    def __init__(
        self, database: Database, order: SharedOrder, explain: Callable[[Sequence[Run]], Sequence[Run]]
    ) -> None:
        self._database = database
        self._order = order
        self._explain = explain

    def page(
        self,
        wanted: RunFilter,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
        projects: Collection[str] | None = None,
    ) -> RunPage:
        """At most ``limit`` runs: the newest, those before a number, or those just after one.

        projects: only the runs of these projects.
        """
        query = select_runs().where(*conditions(wanted), *_of(projects)).limit(limit + 1)
        upward = after is not None and before is None
        if before is not None:
            query = query.where(runs.c.number < before)
        if upward:
            query = query.where(runs.c.number > after)
        query = query.order_by(runs.c.number if upward else runs.c.number.desc())
        found = self._runs(query)
        beyond = len(found) > limit
        found = found[:limit]
        if upward:
            found.reverse()
        return RunPage(
            self._explain(found),
            newer=found[0].number if found and (beyond if upward else before is not None) else None,
            older=found[-1].number if found and (upward or beyond) else None,
        )

    def waiting(self, limit: int = 50, *, projects: Collection[str] | None = None) -> Sequence[Run]:
        """Runs with jobs that are queued, in the order in which workers take these. projects: only of these."""
        with self._database.read() as connection:
            order = self._order.now(connection)
        seen = (turn.run for turn in order.turns if projects is None or turn.project in projects)
        numbers = list(itertools.islice(dict.fromkeys(seen), limit))  # a run has as many turns as jobs
        found = {run.number: run for run in self._runs(select_runs().where(runs.c.number.in_(numbers)))}
        waiting = [found[number] for number in numbers if number in found]
        return self._explain([run for run in waiting if run.state not in FINAL_STATES])

    def running(self) -> Sequence[Run]:
        """The runs that are being built, by number."""
        return self._runs(select_runs().where(runs.c.state == "running").order_by(runs.c.number))

    def numbered(self, numbers: Collection[int]) -> Sequence[Run]:
        """The runs with these numbers, as far as there are such."""
        return self._runs(select_runs().where(runs.c.number.in_(numbers))) if numbers else ()

    def oldest_waiting(self, *, projects: Collection[str] | None = None) -> float | None:
        """Since when the run waits for a worker that does so longest; None: none waits. projects: only of these."""
        query = select(func.min(jobs.c.queued_at)).join(runs, runs.c.number == jobs.c.run)
        query = query.where(jobs.c.state == "queued", *_of(projects))
        with self._database.read() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else float(found)

    def count(self, state: AnyRunState, *, projects: Collection[str] | None = None) -> int:
        """How many runs are in ``state``. projects: only the runs of these projects."""
        query = select(func.count()).select_from(runs).where(runs.c.state == state, *_of(projects))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar() or 0)

    def _runs(self, query: Select[Any]) -> list[Run]:
        with self._database.read() as connection:
            return [run_from_row(row) for row in connection.execute(query)]


def _of(projects: Collection[str] | None) -> list[ColumnElement[bool]]:
    return [] if projects is None else [runs.c.project.in_(projects)]


def conditions(wanted: RunFilter) -> list[ColumnElement[bool]]:
    """What a row of a run has to be like, beside its first job's."""
    found: list[ColumnElement[bool]] = []
    if wanted.project:
        found.append(runs.c.project == wanted.project)
    if wanted.state is not None:
        found.append(runs.c.state.in_(GROUPS[wanted.state]))
    if wanted.branch:
        found.append(runs.c.branch == wanted.branch)
    if wanted.by:
        found.append(runs.c.trigger.contains(f'"by":{_inner(wanted.by, quotes=True)}', autoescape=True))
    if wanted.text:
        text, number = _inner(wanted.text), wanted.text.removeprefix("#")
        places: list[ColumnElement[bool]] = [
            column.icontains(text, autoescape=True)
            for column in (runs.c.project, runs.c.trigger, runs.c.source, jobs.c.spec)
        ]
        if number.isascii() and number.isdigit() and len(number) < _DIGITS:
            places.append(runs.c.number == int(number))
        found.append(or_(*places))
    return found


def _inner(text: str, *, quotes: bool = False) -> str:
    """How ``text`` stands within a JSON string of a column."""
    encoded = msgspec.json.encode(text).decode()
    return encoded if quotes else encoded[1:-1]
