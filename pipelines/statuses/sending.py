"""Sends the outbox to the forges: in order for each commit, and again after a pause when a forge is down.

Several senders may run. Each takes entries for a while by moving their ``due_at``, so a sender that dies loses nothing.
When a forge does not answer, nothing else is sent there until a pause is over. Then, for each commit, only the newest
entry is sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.engine import Row

from ci.ends import JobOutcome
from core.errors import ShiplapError
from pipelines.database import Database
from pipelines.errors import NotFoundError, SecretError
from pipelines.forges.errors import ForgeApiError, ForgeRefusalError
from pipelines.forges.events import Status
from pipelines.forges.known import FORGES
from pipelines.model import Project
from pipelines.projects.projects import Projects
from pipelines.projects.repositories import repository_path
from pipelines.schema import jobs, runs, statuses
from pipelines.statuses.transport import Transport
from pipelines.statuses.wording import preview_words

_ROUND_S: Final = 1.0
_BATCH: Final = 4
_TAKEN_S: Final = 90.0  # more than a batch takes if every request times out
_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 1800.0
_GIVEN_UP_S: Final = 86400.0
_SHOWN: Final = 500
_log = logging.getLogger(__name__)


class StatusSender:
    """Sends what waits in the outbox. Runs in one thread of the web process.

    url_of: the address of a run's page, from its number.
    """

    def __init__(
        self,
        database: Database,
        projects: Projects,
        transport: Transport,
        url_of: Callable[[int], str],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._projects = projects
        self._transport = transport
        self._url_of = url_of
        self._clock = clock

    def send_due(self) -> int:
        """Send entries that are due, a batch at most; returns how many the forges took.

        Raises DatabaseUnreachableError.
        """
        sent = 0
        resting: dict[str, float] = {}  # projects whose forge just failed -> end of the pause
        for row in self._take():
            until = resting.get(row.project)
            if until is not None:
                self._mark(row, due_at=until)
                continue
            try:
                self._send(row)
            except ForgeRefusalError as error:
                self._mark(row, outcome="failed", error=error.message[:_SHOWN], attempts=row.attempts + 1)
                _log.warning("run %d: the status of its commit is not taken: %s", row.run, error.message)
            except ForgeApiError as error:
                resting[row.project] = self._postpone(row, error)
            else:
                self._mark(row, outcome="sent", sent_at=self._clock(), error="", attempts=row.attempts + 1)
                sent += 1
        return sent

    def _take(self) -> Sequence[Row[Any]]:
        """The first waiting entry of each commit and context, if it is due; nobody else gets it for a while."""
        now = self._clock()
        key = (statuses.c.project, statuses.c.commit, statuses.c.context)
        first = select(func.min(statuses.c.id)).where(statuses.c.outcome == "waiting").group_by(*key)
        wanted = (
            select(statuses)
            .where(statuses.c.id.in_(first), statuses.c.due_at <= now)
            .order_by(statuses.c.id)
            .limit(_BATCH)
        )
        with self._database.read() as connection:
            found = connection.execute(wanted).all()
        if not found:
            return ()
        taken = []
        with self._database.write() as connection:
            for row in found:
                held = connection.execute(
                    update(statuses)
                    .where(statuses.c.id == row.id, statuses.c.outcome == "waiting", statuses.c.due_at == row.due_at)
                    .values(due_at=now + _TAKEN_S)
                )
                if held.rowcount:
                    taken.append(row)
        return taken

    def _send(self, row: Row[Any]) -> None:
        project, token = self._target(row.project)
        forge = FORGES[project.hook.forge]
        url = project.hook.repository
        page = self._url_of(row.run) + (self._below(row) if row.job else "")
        status = Status(row.state, row.context, row.description, page, self._branch(row.run))
        call = forge.status_call(repository_path(url), row.commit, status, token)
        self._transport.send(project.hook.api_url or forge.default_api(url), call)

    def _below(self, row: Row[Any]) -> str:
        """What of a run's page a mark opens: a job, or the preview of one that the mark is called after."""
        if row.state == "success":
            wanted = select(jobs.c.result).where(jobs.c.run == row.run, jobs.c.place == row.job)
            with self._database.read() as connection:
                result = connection.execute(wanted).scalar() or ""
            if '"preview":true' in result:
                for each in JobOutcome.from_json(result).published:
                    if each.preview and row.description == preview_words(each.name):
                        return f"/jobs/{row.job}/outputs/{each.name}/open"
        return f"?job={row.job}"

    def _target(self, name: str) -> tuple[Project, str]:
        try:
            project, token = self._projects.get(name), self._projects.status_token(name)
        except (NotFoundError, SecretError) as error:
            raise ForgeRefusalError(error.message) from error
        if not token or not project.reports_status:
            raise ForgeRefusalError("the project has no token for commit statuses any more")
        return project, token

    def _branch(self, run: int) -> str:
        with self._database.read() as connection:
            return connection.execute(select(runs.c.branch).where(runs.c.number == run)).scalar() or ""

    def _postpone(self, row: Row[Any], error: ForgeApiError) -> float:
        """Try again later, or send a newer state of the commit then, if one waits. Returns when."""
        now = self._clock()
        pause = error.retry_after_s or min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**row.attempts)
        until = now + pause
        told: dict[str, object] = {"error": error.message[:_SHOWN], "attempts": row.attempts + 1}
        with self._database.write() as connection:
            newer = connection.execute(
                select(statuses.c.id).where(
                    statuses.c.project == row.project,
                    statuses.c.commit == row.commit,
                    statuses.c.context == row.context,
                    statuses.c.outcome == "waiting",
                    statuses.c.id > row.id,
                )
            ).scalars()
            waiting = list(newer)
            if waiting:
                connection.execute(
                    update(statuses).where(statuses.c.id.in_(waiting)).values(due_at=until, attempts=row.attempts + 1)
                )
            state = "superseded" if waiting else "failed" if now - row.created_at > _GIVEN_UP_S else "waiting"
            connection.execute(
                update(statuses).where(statuses.c.id == row.id).values(outcome=state, due_at=until, **told)
            )
        _log.warning("run %d: the forge takes no status now, again in %.0f s: %s", row.run, pause, error.message)
        return until

    def _mark(self, row: Row[Any], **values: object) -> None:
        with self._database.write() as connection:
            connection.execute(update(statuses).where(statuses.c.id == row.id).values(values))


class SenderThread:
    """Sends in the background until ``stop``. A daemon: what was not sent waits in the database."""

    def __init__(self, sender: StatusSender) -> None:
        self._sender = sender
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="statuses", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_ROUND_S):
            try:
                while self._sender.send_due() and not self._stopping.is_set():
                    pass
            except ShiplapError as error:  # the database is away, or full
                _log.warning("statuses wait: %s", error.message)
