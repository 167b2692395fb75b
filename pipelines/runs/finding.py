"""Finds runs for somebody who types: by number, by commit, and by words among the newest. It is quick before whole."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec
from sqlalchemy import Select, or_, select
from sqlalchemy.engine import Row

from pipelines.database import Database
from pipelines.model import AnyRunState, Trigger
from pipelines.schema import runs

AMONG: Final = 3000
"""How many of the newest runs are looked through for words. The list of runs looks through all."""

_DIGITS: Final = 10
_triggers: Final = msgspec.json.Decoder(Trigger)


class FoundRun(msgspec.Struct, frozen=True):
    """A run in one line."""

    number: int
    project: str
    state: AnyRunState
    trigger: Trigger


def find_runs(
    database: Database, text: str, *, by: str = "", projects: Collection[str] | None = None, limit: int = 8
) -> list[FoundRun]:
    """The run with this number first, then the newest that have the text.

    text: in the title, branch, tag, commit or person that started the run, or in its project's name; or a number with
        or without #.
    by: only runs that somebody whose name has this started.
    projects: only runs of these.
    """
    newest = _columns(projects).order_by(runs.c.number.desc()).limit(AMONG).subquery()
    wanted = select(newest)
    if by:
        wanted = wanted.where(newest.c.trigger.icontains(f'"by":"{_inner(by)}', autoescape=True))
    if text:
        has = newest.c.trigger.icontains(_inner(text), autoescape=True)
        wanted = wanted.where(or_(newest.c.project.icontains(text, autoescape=True), has))
    number = text.removeprefix("#")
    found: dict[int, FoundRun] = {}
    with database.read() as connection:
        if number.isascii() and number.isdigit() and len(number) < _DIGITS:
            for row in connection.execute(_columns(projects).where(runs.c.number == int(number))):
                found[row.number] = _found(row)
        for row in connection.execute(wanted.order_by(newest.c.number.desc())):
            if len(found) >= limit:
                break
            run = _found(row)
            if _says(run, text.casefold()):
                found.setdefault(run.number, run)
    return list(found.values())


def _found(row: Row[Any]) -> FoundRun:
    return FoundRun(row.number, row.project, row.state, _triggers.decode(row.trigger))


def _says(run: FoundRun, text: str) -> bool:
    """Whether the run has the text where people see it: the database has also looked at the names of members."""
    trigger = run.trigger
    seen = (run.project, trigger.title, trigger.branch, trigger.tag, trigger.commit, trigger.by)
    return any(text in each.casefold() for each in seen)


def _columns(projects: Collection[str] | None) -> Select[Any]:
    wanted = select(runs.c.number, runs.c.project, runs.c.state, runs.c.trigger)
    return wanted if projects is None else wanted.where(runs.c.project.in_(projects))


def _inner(text: str) -> str:
    """How the text stands within a JSON string of a column."""
    return msgspec.json.encode(text).decode()[1:-1]
