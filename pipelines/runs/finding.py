"""Finds runs for somebody who types: by number, by commit, and by words."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, select

from pipelines.database import Database
from pipelines.model import AnyRunState, Trigger
from pipelines.runs.texts import by_who_begins, folded, numbers_with
from pipelines.schema import runs

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

    text: in what started the run, its source or its image names; or a number with or without #.
    by: only runs that somebody whose name begins so started.
    projects: only runs of these.
    """
    its: list[ColumnElement[bool]] = [] if projects is None else [runs.c.project.in_(projects)]
    needles = [needle for needle in (by_who_begins(by), folded(text)) if needle]
    number = text.removeprefix("#")
    with database.read() as connection:
        numbers = numbers_with(connection, needles, its, limit=limit)
        if number.isascii() and number.isdigit() and len(number) < _DIGITS:
            numbers.insert(0, int(number))
        columns = select(runs.c.number, runs.c.project, runs.c.state, runs.c.trigger)
        rows = {row.number: row for row in connection.execute(columns.where(*its, runs.c.number.in_(numbers)))}
    found = [rows[each] for each in dict.fromkeys(numbers) if each in rows]
    return [FoundRun(row.number, row.project, row.state, _triggers.decode(row.trigger)) for row in found[:limit]]
