"""Lists of runs as people look for them: filtered, searched, in pages that go both ways."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.engine import Connection

from pipelines.database import Database
from pipelines.model import FINAL_STATES, AnyRunState, Run
from pipelines.runs.rows import run_from_row, select_runs
from pipelines.runs.shares import SharedOrder
from pipelines.runs.texts import by_whom, folded, has_all, numbers_with
from pipelines.schema import jobs, run_texts, runs

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
    by: who started it, by the whole name in whatever case.
    text: in whatever case, anywhere in what started it, its source, its image names; or its number.
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
        upward = after is not None and before is None
        with self._database.read() as connection:
            found = list_runs(connection, wanted, before=before, after=after, limit=limit + 1, projects=projects)
        beyond = len(found) > limit
        found = found[-limit:] if upward and beyond else found[:limit]
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


def list_runs(
    connection: Connection,
    wanted: RunFilter,
    *,
    state: AnyRunState | None = None,
    before: int | None = None,
    after: int | None = None,
    limit: int,
    projects: Collection[str] | None = None,
) -> list[Run]:
    """Runs, the newest first: the newest of all, those before a number, or those just ``after`` one.

    state: only of these, beside what ``wanted`` says.
    projects: only of these.
    """
    after = after if before is None else None
    chosen = [*_conditions(wanted), *_of(projects)]
    if state is not None:
        chosen.append(runs.c.state == state)
    needles = [*([by_whom(wanted.by)] if wanted.by else []), *([folded(wanted.text)] if wanted.text else [])]
    numbers = numbers_with(connection, needles, chosen, before=before, after=after, limit=limit)
    number = _number_in(wanted.text)
    if number is not None:
        its = [*chosen, runs.c.number == number]
        if wanted.by:
            its.append(exists().where(run_texts.c.run == runs.c.number, has_all(connection, needles[:1])))
        also = connection.scalars(select(runs.c.number).where(*its))
        numbers.extend(each for each in also if (before is None or each < before) and (after is None or each > after))
    chosen_numbers = sorted(set(numbers), reverse=after is None)[:limit]
    query = select_runs().where(runs.c.number.in_(chosen_numbers)).order_by(runs.c.number.desc())
    return [run_from_row(row) for row in connection.execute(query)] if chosen_numbers else []


def _of(projects: Collection[str] | None) -> list[ColumnElement[bool]]:
    return [] if projects is None else [runs.c.project.in_(projects)]


def _conditions(wanted: RunFilter) -> list[ColumnElement[bool]]:
    """What a row of a run has to be like, but for its text."""
    found: list[ColumnElement[bool]] = []
    if wanted.project:
        found.append(runs.c.project == wanted.project)
    if wanted.state is not None:
        found.append(runs.c.state.in_(GROUPS[wanted.state]))
    if wanted.branch:
        found.append(runs.c.branch == wanted.branch)
    return found


def _number_in(text: str) -> int | None:
    """The number of a run that a text is, with # or without."""
    number = text.removeprefix("#")
    return int(number) if number.isascii() and number.isdigit() and len(number) < _DIGITS else None
