"""Approvals of pull requests from forks: each commit waits until somebody has looked at it and approved it alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection, Row

from pipelines.database import Database
from pipelines.errors import ConflictError, NotFoundError
from pipelines.model import Run, RunRequest, Trigger
from pipelines.runs.runs import Runs
from pipelines.schema import approvals

ApprovalState: TypeAlias = Literal["waiting", "approved", "rejected", "outdated"]

_LEAST_DIGITS: Final = 12
_requests = msgspec.json.Decoder(RunRequest)
_triggers = msgspec.json.Decoder(Trigger)


class Approval(msgspec.Struct, frozen=True):
    """One commit of one pull request. run: the run that its approval started."""

    id: int
    project: str
    pull_request: int
    commit: str
    state: ApprovalState
    trigger: Trigger
    created_at: float
    decided_at: float | None
    decided_by: str
    run: int | None


class Approvals:
    """All commits that wait, and the decisions on the others. Thread-safe."""

    def __init__(self, database: Database, runs: Runs, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._runs = runs
        self._clock = clock

    def list(self, project: str, *, state: ApprovalState | None = None, limit: int = 100) -> list[Approval]:
        """The newest first."""
        wanted = select(approvals).where(approvals.c.project == project).order_by(approvals.c.id.desc()).limit(limit)
        if state is not None:
            wanted = wanted.where(approvals.c.state == state)
        with self._database.read() as connection:
            return [_from_row(row) for row in connection.execute(wanted)]

    def ask(self, connection: Connection, request: RunRequest, trigger: Trigger) -> tuple[bool, str]:
        """Record that the commit waits, within the caller's transaction; commits that waited before it are outdated.

        Returns whether the commit now waits (False: it was decided before), and a text for people on its state.
        """
        of_pull = (approvals.c.project == request.project, approvals.c.pull_request == trigger.pull_request)
        shown = f"pull request {trigger.pull_request} at {trigger.commit[:12]}"
        known = connection.execute(select(approvals).where(*of_pull, approvals.c.commit == trigger.commit)).first()
        if known is not None and known.state != "outdated":
            return False, f"{shown} comes from a fork, and is {known.state} already"
        self.outdate(connection, request.project, trigger.pull_request)
        values = {
            "request": msgspec.json.encode(request).decode(),
            "trigger": msgspec.json.encode(trigger).decode(),
            "state": "waiting",
            "created_at": self._clock(),
        }
        if known is not None:
            connection.execute(update(approvals).where(approvals.c.id == known.id).values(values))
        else:
            key = {"project": request.project, "pull_request": trigger.pull_request, "commit": trigger.commit}
            connection.execute(insert(approvals).values(**key, **values))
        return True, f"{shown} comes from a fork, and waits for approval"

    def outdate(self, connection: Connection, project: str, pull_request: int) -> None:
        """Note that the pull request's commits so far need no decision any more."""
        connection.execute(
            update(approvals)
            .where(
                approvals.c.project == project,
                approvals.c.pull_request == pull_request,
                approvals.c.state == "waiting",
            )
            .values(state="outdated")
        )

    def approve(self, project: str, number: int, commit: str, by: str) -> Run:
        """Build the commit. commit: the one that was looked at, or its first digits, as messages and pages show them.

        It must be the commit that waits. An approval's number belongs to one commit for good, whatever other commit
        begins with these digits. Raises NotFoundError, and ConflictError when it was decided before, or another commit
        waits.
        """
        with self._database.write() as connection:
            row = self._decide(connection, project, number, commit, "approved", by)
            run = self._runs.insert(connection, _requests.decode(row.request), _triggers.decode(row.trigger))
            connection.execute(update(approvals).where(approvals.c.id == number).values(run=run.number))
        self._runs.announce(run)
        return run

    def reject(self, project: str, number: int, commit: str, by: str) -> None:
        """Never build the commit. Raises as ``approve``."""
        with self._database.write() as connection:
            self._decide(connection, project, number, commit, "rejected", by)

    def _decide(
        self, connection: Connection, project: str, number: int, commit: str, state: ApprovalState, by: str
    ) -> Row[Any]:
        row = connection.execute(
            select(approvals).where(approvals.c.project == project, approvals.c.id == number)
        ).first()
        if row is None:
            raise NotFoundError(f"project {project} has no approval {number}")
        if len(commit) < _LEAST_DIGITS or not row.commit.startswith(commit.lower()):
            raise ConflictError(
                f"approval {number} is for commit {row.commit[:12]}, not {commit[:12]}", hint="look at the commit again"
            )
        decided = connection.execute(
            update(approvals)
            .where(approvals.c.id == number, approvals.c.state == "waiting")
            .values(state=state, decided_at=self._clock(), decided_by=by[:200])
        )
        if not decided.rowcount:
            raise ConflictError(f"commit {row.commit[:12]} waits for no approval: it is {row.state}")
        return row


def _from_row(row: Row[Any]) -> Approval:
    return Approval(
        row.id, row.project, row.pull_request, row.commit, row.state, _triggers.decode(row.trigger), row.created_at,
        row.decided_at, row.decided_by, row.run,
    )  # fmt: skip
