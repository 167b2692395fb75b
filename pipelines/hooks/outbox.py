"""The outbox of commit statuses: a row for each state of a run, written in the transaction that changes the state.

So no state is lost when a process dies, and none is told that never came to be. ``pipelines.hooks.sending`` sends them.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from pipelines.database import Database
from pipelines.forges.events import StatusState
from pipelines.model import Run, RunState
from pipelines.schema import statuses

Outcome: TypeAlias = Literal["waiting", "sent", "failed", "superseded"]

_STATES: Final[dict[RunState, StatusState]] = {
    "queued": "pending", "running": "running", "succeeded": "success", "failed": "failure", "cancelled": "cancelled",
    "error": "error",
}  # fmt: skip
_DESCRIPTIONS: Final[dict[StatusState, str]] = {
    "pending": "waits for a worker", "running": "is being built", "success": "built", "failure": "failed",
    "error": "could not be built", "cancelled": "cancelled",
}  # fmt: skip
_MAX_DESCRIPTION: Final = 140


class SentStatus(msgspec.Struct, frozen=True):
    """One entry. due_at: when it is to be tried (again). error: why it was not taken."""

    id: int
    run: int
    commit: str
    context: str
    state: StatusState
    description: str
    created_at: float
    outcome: Outcome
    attempts: int
    due_at: float
    sent_at: float | None
    error: str


def note_state(connection: Connection, run: Run, now: float) -> None:
    """The run came into its state in this transaction: its commit, if it has one, is to be marked."""
    trigger = run.trigger
    if not trigger.commit or not trigger.context:
        return
    state = _STATES[run.state]
    told = run.reason.partition("\n")[0] if run.is_final and run.reason else _DESCRIPTIONS[state]
    connection.execute(
        insert(statuses).values(
            project=run.project,
            run=run.number,
            commit=trigger.commit,
            context=trigger.context,
            state=state,
            description=told[:_MAX_DESCRIPTION],
            created_at=now,
            outcome="waiting",
            due_at=now,
        )
    )


def list_statuses(database: Database, project: str, *, limit: int = 100) -> list[SentStatus]:
    """Of one project, the newest first."""
    wanted = select(statuses).where(statuses.c.project == project).order_by(statuses.c.id.desc()).limit(limit)
    with database.read() as connection:
        return [
            SentStatus(
                row.id, row.run, row.commit, row.context, row.state, row.description, row.created_at, row.outcome,
                row.attempts, row.due_at, row.sent_at, row.error,
            )
            for row in connection.execute(wanted)
        ]  # fmt: skip
