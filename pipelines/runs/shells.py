"""Shells that people open in jobs of pipelines: who asked for which, whether it may be opened, and what became of it.

A row of ``shells`` is the permission and the record. The web process writes it once it has checked who asks; a worker
of the job's host opens the shell, if the row still says so and is not old. What is typed and shown goes by way of Redis
(``pipelines.runs.shellpipes``), which decides nothing. The row stays as long as its job.

- A job that runs is open to who maintains the project. From then on its row says that somebody was in its attempt
  (``entered``): its result is for nobody else.
- A job that failed is open as long as what it left is kept. Who may build opens it, unless the run is protected, or the
  job may have had secrets: these are for who maintains the project.
- The secrets are those that the run may have today, and only who maintains the project gets them. A fork's has none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection, Row

from ci.failedfiles import SHELL_S, FailedFiles
from ci.graph import JobNode
from ci.templates import Template
from pipelines.accounts.audit import add_entry, printable
from pipelines.accounts.roles import Level
from pipelines.database import Database
from pipelines.errors import ConflictError, NotFoundError
from pipelines.model import Run
from pipelines.runs.domains import domain_of
from pipelines.runs.rows import run_from_row, select_runs
from pipelines.runs.states import hold_run, hold_run_of
from pipelines.schema import failed_files, jobs, projects, runs, shells

ShellKind: TypeAlias = Literal["running", "failed"]
ShellState: TypeAlias = Literal["asked", "open", "ended"]

ASKED_S: Final = 30.0
"""How long a worker has to open a shell that was asked for."""

DEFAULT_COMMAND: Final = ("/bin/sh",)

_MOST: Final = 4  # of a project at once
_MOST_REASON: Final = 500
_nodes: Final = msgspec.json.Decoder(JobNode)


class ShellTerms(msgspec.Struct, frozen=True):
    """What a shell is asked to be. command: with its arguments. term: the kind of terminal."""

    command: tuple[str, ...] = DEFAULT_COMMAND
    term: str = "xterm"
    rows: int = 24
    columns: int = 80


class ShellView(msgspec.Struct, frozen=True):
    """A shell in a job. Times are seconds since the epoch.

    kind: what the job was then. attempt: of the job.
    by: who opened it. has_secrets: whether the job's secrets are in it.
    exit_code: of the command; null: it did not run, or did not end by itself.
    reason: why it ended, where it did not end by itself.
    """

    id: int
    run: int
    job: str
    kind: ShellKind
    attempt: int
    by: str
    has_secrets: bool
    command: tuple[str, ...]
    state: ShellState
    asked_at: float
    opened_at: float | None
    ended_at: float | None
    exit_code: int | None
    reason: str


class Asker(NamedTuple):
    """Who asks for a shell. may_maintain: in the job's project. address: the client's."""

    actor: str
    address: str
    may_maintain: bool


class Granted(NamedTuple):
    """A shell that a worker may open now.

    number: the job's among all; name: its name in the run.
    files: what a failed job left; None: the job runs. until: when these are kept no longer.
    """

    id: int
    number: int
    name: str
    run: Run
    attempt: int
    has_secrets: bool
    terms: ShellTerms
    files: FailedFiles | None
    until: float


_terms: Final = msgspec.json.Decoder(ShellTerms)


class Shells:
    """The shells of all jobs. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def needed(self, run: int, place: int) -> Level:
        """The right that somebody needs to open a shell in a job as it is now.

        Raises NotFoundError, and ConflictError where nobody can.
        """
        with self._database.read() as connection:
            return self._way(connection, run, place).needed

    def ask(self, run: int, place: int, who: Asker, terms: ShellTerms) -> ShellView:
        """Ask for a shell: a worker opens it soon. Raises NotFoundError, and ConflictError where nobody can."""
        now = self._clock()
        with self._database.write() as connection:
            its = select(runs.c.project).where(runs.c.number == run).scalar_subquery()
            held = select(projects.c.name).where(projects.c.name == its)
            connection.execute(held.with_for_update(key_share=True))  # its shells are counted
            hold_run(connection, run)
            way = self._way(connection, run, place)
            if way.needed == "maintain" and not who.may_maintain:
                raise ConflictError(f"job {way.name} of run {run} is another one's by now", hint="ask once more")
            self._refuse_many(connection, way.run.project, now)
            row = {
                "job": way.number, "run": run, "name": way.name, "attempt": way.attempt, "project": way.run.project,
                "kind": way.kind, "host": way.host, "actor": printable(who.actor)[:200],
                "address": printable(who.address)[:64], "has_secrets": who.may_maintain and not way.is_fork,
                "terms": msgspec.json.encode(terms).decode(), "state": "asked", "asked_at": now,
            }  # fmt: skip
            made = connection.execute(insert(shells).values(row)).inserted_primary_key
            assert made is not None, "the database numbers them"
            number = int(made[0])
            add_entry(
                connection, now, who.actor, "open shell", f"job {way.name} of run {run}",
                f"{'with' if row['has_secrets'] else 'without'} its secrets: {' '.join(terms.command)}",
                address=who.address, project=way.run.project,
            )  # fmt: skip
            return _view(connection.execute(select(shells).where(shells.c.id == number)).one())

    def list(self, run: int, place: int) -> Sequence[ShellView]:
        """The shells that people opened in a job, in any of its attempts, the oldest first."""
        its = select(jobs.c.number).where(jobs.c.run == run, jobs.c.place == place).scalar_subquery()
        with self._database.read() as connection:
            found = connection.execute(select(shells).where(shells.c.job == its).order_by(shells.c.id))
            return [_view(row) for row in found]

    def get(self, run: int, shell: int) -> ShellView:
        """Raises NotFoundError."""
        with self._database.read() as connection:
            row = connection.execute(select(shells).where(shells.c.id == shell, shells.c.run == run)).first()
        if row is None:
            raise NotFoundError(f"run {run} has no shell {shell}")
        return _view(row)

    def attach(self, run: int, shell: int, actor: str) -> None:
        """Note that the terminal of whoever asked for a shell has come: nobody else's, and no other one.

        Raises NotFoundError, and ConflictError for a shell that has a terminal, or has ended.
        """
        its = and_(shells.c.id == shell, shells.c.run == run, shells.c.actor == printable(actor)[:200])
        is_free = and_(its, shells.c.is_attached.is_(False), shells.c.state != "ended")
        with self._database.write() as connection:
            if connection.execute(update(shells).where(is_free).values(is_attached=True)).rowcount:
                return
            if connection.execute(select(shells.c.id).where(its)).first() is None:
                raise NotFoundError(f"you asked for no shell {shell} in run {run}")
        raise ConflictError(f"shell {shell} has its terminal already, or has ended", hint="ask for another one")

    # The worker's side.

    def asked_in(self, job: int, attempt: int) -> Sequence[int]:
        """Shells that are to be opened in a job that runs. job: its number among all."""
        its = and_(shells.c.job == job, shells.c.attempt == attempt, shells.c.kind == "running")
        with self._database.read() as connection:
            return connection.execute(select(shells.c.id).where(its, self._is_asked())).scalars().all()

    def asked_at(self, host: str) -> Sequence[int]:
        """Shells that are to be opened in what failed jobs left in a host's store."""
        its = and_(shells.c.host == host, shells.c.kind == "failed")
        with self._database.read() as connection:
            return connection.execute(select(shells.c.id).where(its, self._is_asked())).scalars().all()

    def open(self, shell: int, host: str) -> Granted | None:
        """Take a shell that was asked for, to open it at once; None: it is not to be opened, here or any more.

        Of several that try, one gets it.
        """
        now = self._clock()
        with self._database.write() as connection:
            job = connection.execute(select(shells.c.job).where(shells.c.id == shell)).scalar()
            if job is None:
                return None
            hold_run_of(connection, job)
            is_to_be = and_(shells.c.id == shell, shells.c.host == host, self._is_asked())
            if not connection.execute(update(shells).where(is_to_be).values(state="open", opened_at=now)).rowcount:
                return None
            row = connection.execute(select(shells).where(shells.c.id == shell)).one()
            files, until = None, 0.0
            its = and_(jobs.c.number == job, jobs.c.attempt == row.attempt)
            if row.kind == "running":
                entered = update(jobs).where(its, jobs.c.state == "running").values(entered=row.attempt)
                is_there = connection.execute(entered).rowcount == 1
            else:
                kept = select(failed_files).where(failed_files.c.job == job, failed_files.c.host == host)
                left = connection.execute(kept).first()
                state = connection.execute(select(jobs.c.state).where(its)).scalar()
                is_there = left is not None and left.until > now and state == "failed"
                if left is not None:
                    files, until = FailedFiles.from_json(left.document), left.until
            if not is_there:
                _end(connection, shells.c.id == shell, now, None, "the job has gone on by now")
                return None
            run = run_from_row(connection.execute(select_runs().where(runs.c.number == row.run)).one())
        return Granted(
            shell, row.job, row.name, run, row.attempt, row.has_secrets, _terms.decode(row.terms), files, until
        )

    def is_open(self, shell: int) -> bool:
        """Whether it may go on: nobody has ended it, and its job is still there."""
        with self._database.read() as connection:
            wanted = select(shells.c.state).where(shells.c.id == shell)
            return connection.execute(wanted).scalar() == "open"

    def end(self, shell: int, exit_code: int | None, reason: str = "") -> None:
        """Note that a shell has ended. What was noted first counts."""
        with self._database.write() as connection:
            _end(connection, shells.c.id == shell, self._clock(), exit_code, reason)

    # Helpers

    def _is_asked(self) -> ColumnElement[bool]:
        """A shell that waits to be opened. One that nobody opened in time waits no more, whatever its row says."""
        return and_(shells.c.state == "asked", shells.c.asked_at > self._clock() - ASKED_S)

    def _way(self, connection: Connection, run: int, place: int) -> _Way:
        """How somebody gets into a job. Raises NotFoundError, ConflictError."""
        columns = (
            jobs.c.number, jobs.c.name, jobs.c.kind, jobs.c.state, jobs.c.attempt, jobs.c.host, jobs.c.node,
            jobs.c.spec,
        )  # fmt: skip
        row = connection.execute(select(*columns).where(jobs.c.run == run, jobs.c.place == place)).first()
        if row is None:
            raise NotFoundError(f"run {run} has no job {place}")
        its = f"job {row.name} of run {run}"
        if row.kind != "job":
            raise ConflictError(f"{its} is no job of a pipeline: it has no container to open a shell in")
        if row.node and _nodes.decode(row.node).is_gate:
            raise ConflictError(f"{its} is a gate: people answer it, and nothing runs")
        template = json.loads(row.spec).get("template")
        if template is not None and Template.from_data(template).says("build"):
            raise ConflictError(
                f"{its} builds an image: it has no container to open a shell in",
                hint="`shiplap build --debug` opens one in a RUN that fails",
            )
        found = run_from_row(connection.execute(select_runs().where(runs.c.number == run)).one())
        domain = domain_of(found)
        assert domain is not None, "planning has settled it"
        if row.state == "running":
            if not row.host:
                raise ConflictError(f"{its} runs where nobody knows", hint="its worker is older than this service")
            return _Way(row.number, row.name, row.attempt, row.host, "running", found, "maintain", domain.is_fork)
        if row.state != "failed":
            raise ConflictError(
                f"{its} is {row.state}: a shell can be opened in one that runs, and in one that failed a while ago"
            )
        kept = connection.execute(select(failed_files).where(failed_files.c.job == row.number)).first()
        if kept is None or kept.until <= self._clock():
            raise ConflictError(
                f"what {its} left is not kept" + ("" if kept is None else " any longer"),
                hint=f"`shiplap project set {found.project} --keep-failed` keeps it for an hour from then on; the job's"
                " log says why it is not",
            )
        files = FailedFiles.from_json(kept.document)
        needed: Level = "maintain" if domain.lane == "protected" or files.had_secrets else "build"
        return _Way(row.number, row.name, row.attempt, kept.host, "failed", found, needed, domain.is_fork)

    def _refuse_many(self, connection: Connection, project: str, now: float) -> None:
        """Raise ConflictError while a project has as many shells as it may. What nobody has any more is ended."""
        its_job = and_(jobs.c.number == shells.c.job, jobs.c.attempt == shells.c.attempt, jobs.c.state == "running")
        is_old = or_(
            and_(shells.c.state == "asked", shells.c.asked_at < now - 2 * ASKED_S),
            and_(shells.c.kind == "failed", shells.c.asked_at < now - SHELL_S - 2 * ASKED_S),
            and_(shells.c.kind == "running", ~select(jobs.c.number).where(its_job).exists()),
        )
        is_its = and_(shells.c.project == project, shells.c.state != "ended")
        _end(connection, and_(is_its, is_old), now, None, "nobody was there any more")
        count = connection.execute(select(func.count()).select_from(shells).where(is_its)).scalar_one()
        if count >= _MOST:
            raise ConflictError(f"project {project} has {count} shells open, as many as there may be", hint="end one")


class _Way(NamedTuple):
    """How somebody gets into a job."""

    number: int
    name: str
    attempt: int
    host: str
    kind: ShellKind
    run: Run
    needed: Level
    is_fork: bool


def note_failed_files(connection: Connection, job: int, host: str, files: FailedFiles, until: float) -> None:
    """Write down what a failed job left, in the transaction that ends it. job: its number among all."""
    connection.execute(delete(failed_files).where(or_(failed_files.c.job == job, failed_files.c.until < time.time())))
    connection.execute(insert(failed_files).values(job=job, host=host, until=until, document=files.to_json()))


def _end(connection: Connection, which: ColumnElement[bool], now: float, exit_code: int | None, reason: str) -> None:
    values = {"state": "ended", "ended_at": now, "exit_code": exit_code, "reason": printable(reason)[:_MOST_REASON]}
    connection.execute(update(shells).where(which, shells.c.state != "ended").values(values))


def _view(row: Row[Any]) -> ShellView:
    return ShellView(
        id=row.id,
        run=row.run,
        job=row.name,
        kind=row.kind,
        attempt=row.attempt,
        by=row.actor,
        has_secrets=row.has_secrets,
        command=_terms.decode(row.terms).command,
        state=row.state,
        asked_at=row.asked_at,
        opened_at=row.opened_at,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
        reason=row.reason,
    )
