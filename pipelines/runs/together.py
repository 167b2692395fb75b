"""The runs that were planned together: one for each pipeline of a commit, all of the same event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import select

from pipelines.database import Database
from pipelines.model import Trigger
from pipelines.schema import runs

_LOOKED_AT: Final = 500  # runs of the branch after the first one: those of other pipelines come right behind it
_triggers: Final = msgspec.json.Decoder(Trigger)


class PlannedTogether(NamedTuple):
    """A run, and the pipeline that it is of."""

    run: int
    pipeline: str


def planned_together(database: Database, run: int) -> Sequence[PlannedTogether]:
    """A run and those for the other pipelines of its commit, in their order; only itself until it is planned.

    run: the one that was submitted; none for a run that is not there.
    """
    columns = (runs.c.number, runs.c.project, runs.c.branch, runs.c.pipeline, runs.c.trigger)
    with database.read() as connection:
        first = connection.execute(select(*columns).where(runs.c.number == run)).first()
        if first is None:
            return []
        others = select(*columns).where(runs.c.project == first.project, runs.c.branch == first.branch)
        others = others.where(runs.c.number > run, runs.c.pipeline != "").order_by(runs.c.number).limit(_LOOKED_AT)
        found = connection.execute(others).all() if first.pipeline else []
    event = _event(first.trigger)
    same = [first, *(row for row in found if _event(row.trigger) == event)]
    return [PlannedTogether(row.number, row.pipeline) for row in same]


def _event(document: str) -> Trigger:
    """What the run is of, without the name of its own mark. A delivery has a number, so no other push is the same."""
    return msgspec.structs.replace(_triggers.decode(document), context="")
