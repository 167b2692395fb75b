"""Pull requests from a project's own branches whose pushes are run, too: does the pull request get a run of its own?

A repository without pipelines builds each commit once, by its push. In one with pipelines each of these says what it
listens to, so the pull request has to be planned as well. Nobody knows which kind a commit is of before it was fetched.
The run of its push has done that, or does it soon: then the pull request waits with that run.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec
from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from pipelines.model import FINAL_STATES, RunRequest, Trigger
from pipelines.runs.kinds import had_pipelines
from pipelines.schema import runs

Verdict: TypeAlias = Literal["run", "held", "none"]
"""It gets a run; or it does as soon as its push turns out to have pipelines; or the push has built it."""

_LOOKED_AT: Final = 50  # runs of the project, the newest: the push came just before
_triggers: Final = msgspec.json.Decoder(Trigger)
_held: Final = msgspec.json.Decoder(list[tuple[RunRequest, Trigger]])


def judge(connection: Connection, request: RunRequest, trigger: Trigger) -> Verdict:
    """Whether the pull request gets a run. Where that cannot be said yet, the run of its push has it from now on."""
    number = _push_of(connection, request.project, trigger)
    if number is None:
        return "run" if had_pipelines(connection, request.project) else "none"
    # Whoever plans the run holds it, too: it is planned by now, or will find what is put there.
    columns = (runs.c.pipeline, runs.c.state, runs.c.held)
    row = connection.execute(select(*columns).where(runs.c.number == number).with_for_update(key_share=True)).one()
    if row.pipeline:
        return "run"
    if row.state in FINAL_STATES:
        return "none"
    document = msgspec.json.encode([*held_requests(row.held), (request, trigger)]).decode()
    connection.execute(update(runs).where(runs.c.number == number).values(held=document))
    return "held"


def held_requests(document: str) -> list[tuple[RunRequest, Trigger]]:
    """The pull requests that a run's row has."""
    return _held.decode(document) if document else []


def _push_of(connection: Connection, project: str, pull: Trigger) -> int | None:
    """The newest run of the push that brought the pull request's commit."""
    of_branch = select(runs.c.number, runs.c.trigger).where(runs.c.project == project, runs.c.branch == pull.branch)
    for row in connection.execute(of_branch.order_by(runs.c.number.desc()).limit(_LOOKED_AT)):
        trigger = _triggers.decode(row.trigger)
        if trigger.kind == "push" and trigger.commit == pull.commit:
            return int(row.number)
    return None
