"""The outbox of commit statuses: a row for each state of a run, written in the transaction that changes the state.

So a process that dies loses no state, and no state is sent that was never committed. ``pipelines.statuses.sending``
sends them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec
from sqlalchemy import and_, insert, select
from sqlalchemy.engine import Connection

from pipelines.database import Database
from pipelines.forges.events import StatusState
from pipelines.logs.lines import LogLine, decode_line
from pipelines.logs.store import read_lines
from pipelines.logs.tail import last_output, plain
from pipelines.model import FIRST_PLACE, AnyRunState, Run
from pipelines.schema import jobs, statuses, steps
from pipelines.statuses.wording import description, one_line

StatusOutcome: TypeAlias = Literal["waiting", "sent", "failed", "superseded"]

_STATES: Final[dict[AnyRunState, StatusState]] = {
    "queued": "pending", "blocked": "pending", "running": "running", "succeeded": "success", "warnings": "success",
    "failed": "failure", "cancelled": "cancelled", "error": "error",
}  # fmt: skip


class SentStatus(msgspec.Struct, frozen=True):
    """One entry of the outbox. due_at: when it is to be tried (again). error: why the forge did not take it."""

    id: int
    run: int
    commit: str
    context: str
    state: StatusState
    description: str
    created_at: float
    outcome: StatusOutcome
    attempts: int
    due_at: float
    sent_at: float | None
    error: str


def note_state(connection: Connection, run: Run, now: float) -> None:
    """Have the run's commit, if it has one, marked with the state that the run gets in this transaction."""
    trigger = run.trigger
    if not trigger.commit or not trigger.context:
        return
    state = _STATES[run.state]
    last_line = _last_line(connection, run.number) if run.state == "failed" else ""
    add_status(connection, run, trigger.context, state, description(run, state, last_line), now)


def add_status(
    connection: Connection, run: Run, context: str, state: StatusState, told: str, now: float, *, job: int = 0
) -> None:
    """Have the run's commit marked. told: see ``wording``. job: the place of the job to link to; 0: the run."""
    connection.execute(
        insert(statuses).values(
            project=run.project,
            run=run.number,
            commit=run.trigger.commit,
            context=context,
            state=state,
            description=told,
            created_at=now,
            outcome="waiting",
            due_at=now,
            job=job,
        )
    )


def state_of(run: AnyRunState) -> StatusState:
    """What forges learn of a run's state."""
    return _STATES[run]


def note_handed_over(connection: Connection, run: Run, contexts: Sequence[str], now: float) -> None:
    """Have the mark that a commit got as a build's succeed: marks of pipelines say how it went from now on.

    A forge removes no mark, and one that stays pending would keep people waiting. contexts: those marks.
    """
    trigger = run.trigger
    if not trigger.commit or not trigger.context or trigger.context in contexts:
        return
    add_status(connection, run, trigger.context, "success", one_line(f"see {', '.join(contexts)}"), now)


def list_statuses(database: Database, project: str, *, limit: int = 100) -> list[SentStatus]:
    """The entries of one project, the newest first."""
    wanted = select(statuses).where(statuses.c.project == project).order_by(statuses.c.id.desc()).limit(limit)
    with database.read() as connection:
        return [
            SentStatus(
                row.id, row.run, row.commit, row.context, row.state, row.description, row.created_at, row.outcome,
                row.attempts, row.due_at, row.sent_at, row.error,
            )
            for row in connection.execute(wanted)
        ]  # fmt: skip


def failed_line(connection: Connection, job: int) -> str:
    """The last line that the failed step of a job printed, masked as the log has it; "" where it printed nothing."""
    wanted = select(steps).join(jobs, and_(jobs.c.number == steps.c.job, jobs.c.attempt == steps.c.attempt))
    wanted = wanted.where(jobs.c.number == job, steps.c.state == "failed")
    step = connection.execute(wanted.order_by(steps.c.step).limit(1)).first()
    if step is None:
        return ""

    def read(first: int, limit: int) -> list[LogLine]:
        return [decode_line(data) for _, data in read_lines(connection, step.job, first, limit)]

    printed = last_output(read, step=step.step, first_line=step.first_line, last_line=step.last_line)
    return next((text for line in reversed(printed) if (text := one_line(plain(line)))), "")


def _last_line(connection: Connection, run: int) -> str:
    """``failed_line`` of a build's one job."""
    its = select(jobs.c.number).where(jobs.c.run == run, jobs.c.place == FIRST_PLACE)
    return failed_line(connection, connection.execute(its).scalar_one())
