"""Where what the jobs of runs output is: on which host's store, and what of it is in the service's registry.

Each job that a worker did has the ``host`` of that worker: the identity of its store. As long as what later jobs get of
it is only there, ``left_at`` says so; a job that needs it is given to that host. What is in the registry has a row of
``artifacts``, written after the push. ``to_send`` names the host that still has something of the job to send.

The rows go with the run, and what no row names is collected (``pipelines.keeping.outputs``). No backup has them: a
registry that was lost has nothing of what they say. After a restore the hosts send anew what they have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection, Row

from ci.ends import JobOutcome
from pipelines.database import Database
from pipelines.model import FINAL_STATES, Run
from pipelines.runs.graphs import node_documents
from pipelines.runs.previews import HAVE_OUTCOME
from pipelines.runs.rows import run_from_row, select_runs
from pipelines.schema import artifacts, jobs, runs, workers

KEPT_S: Final = 7 * 86400.0
"""How long what a run's jobs made stays after the run has ended: for retries."""

ALIVE_S: Final = 600.0
"""A host whose workers were not heard of for so long is not waited for."""

ArtifactKind: TypeAlias = Literal["layer", "image", "output"]
"""What later jobs get: a layer or an image; an output for people."""

_GOING: Final = ("queued", "running", "blocked")


class Artifact(msgspec.Struct, frozen=True):
    """Something of a job in the service's registry.

    name: of an output for people; else empty.
    manifest: its digest there.
    content: of a layer, its diff ID; of an image, its ID.
    blob, media_type, size: of a layer as it is there, compressed; size of an image: 0.
    until: when people find it no more, in seconds since the epoch; 0: for KEPT_S after the end of the run.
    """

    kind: ArtifactKind
    name: str
    repository: str
    manifest: str
    content: str
    blob: str = ""
    media_type: str = ""
    size: int = 0
    until: float = 0.0


class Unsent(NamedTuple):
    """A job that has ended, of which a host has something to send.

    number: among the jobs of all runs.
    has_gates: people or groups hold jobs of its run up, for longer than a host may live.
    """

    number: int
    place: int
    name: str
    run: Run
    outcome: JobOutcome
    finished_at: float
    has_gates: bool


class Artifacts:
    """Where outputs are, of all runs. Thread-safe. clock: seconds since the epoch."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def of_run(self, run: int) -> dict[str, list[Artifact]]:
        """What the registry has of a run, by the names of its jobs."""
        wanted = select(artifacts, jobs.c.name.label("of")).join(jobs, jobs.c.number == artifacts.c.job)
        found: dict[str, list[Artifact]] = {}
        with self._database.read() as connection:
            for row in connection.execute(wanted.where(jobs.c.run == run)):
                found.setdefault(row.of, []).append(_artifact(row))
        return found

    def output(self, run: int, place: int, name: str) -> Artifact | None:
        """An output for people of a job, if the registry has it."""
        wanted = select(artifacts).join(jobs, jobs.c.number == artifacts.c.job)
        wanted = wanted.where(jobs.c.run == run, jobs.c.place == place)
        with self._database.read() as connection:
            row = connection.execute(wanted.where(artifacts.c.kind == "output", artifacts.c.name == name)).first()
        return None if row is None else _artifact(row)

    def is_on_several_hosts(self) -> bool:
        """Whether workers of more than one host have been heard of lately."""
        with self._database.read() as connection:
            return has_several_hosts(connection, self._clock())

    def has_gates(self, run: int) -> bool:
        """Whether people or groups hold jobs of the run up, or will: for longer than a host may live."""
        with self._database.read() as connection:
            return _has_gates(connection, run)

    def has_unsent(self, host: str) -> bool:
        """Whether a job has ended of which this host has something to send."""
        with self._database.read() as connection:
            return connection.execute(_unsent(host).limit(1)).first() is not None

    def unsent(self, host: str, *, after: int = 0, limit: int = 20) -> list[Unsent]:
        """Jobs that have ended of which this host has something to send, the oldest first. after: a job's number."""
        found = []
        with self._database.read() as connection:
            rows = connection.execute(_unsent(host, after).limit(limit)).all()
            for row in rows:
                run = run_from_row(connection.execute(select_runs().where(runs.c.number == row.run)).one())
                outcome = JobOutcome.from_json(row.result)
                gates = _has_gates(connection, row.run)
                found.append(Unsent(row.number, row.place, row.name, run, outcome, row.finished_at, gates))
        return found

    def note(self, job: int, host: str, found: Sequence[Artifact], *, is_whole: bool) -> None:
        """Note what the registry has of a job that has ended.

        is_whole: later jobs need nothing more of the host. Nothing is left to be sent in any case.
        Raises DatabaseUnreachableError.
        """
        with self._database.write() as connection:
            held = update(jobs).where(jobs.c.number == job, jobs.c.to_send == host, jobs.c.state.in_(HAVE_OUTCOME))
            values = {"to_send": "", **({"left_at": ""} if is_whole else {})}
            if connection.execute(held.values(values)).rowcount:
                note_artifacts(connection, job, found)

    def offer_again(self, host: str) -> None:
        """Let what this host alone has of runs that go on be sent: another host may need it now.

        Each job has a transaction of its own: whoever holds several takes their run first.
        """
        wanted = select(jobs.c.number, jobs.c.to_send).join(runs, runs.c.number == jobs.c.run)
        with self._database.read() as connection:  # by the runs that go on, which are few, and by nothing else
            found = connection.execute(wanted.where(runs.c.state.in_(_GOING), jobs.c.left_at == host)).all()
        for number in (row.number for row in found if not row.to_send):
            this = and_(jobs.c.number == number, jobs.c.left_at == host, jobs.c.to_send == "")
            with self._database.write() as connection:
                connection.execute(update(jobs).where(this).values(to_send=host))


def note_artifacts(connection: Connection, job: int, found: Sequence[Artifact]) -> None:
    """Write down what the registry has of a job, in place of what was known."""
    for each in found:
        this = (artifacts.c.job == job, artifacts.c.kind == each.kind, artifacts.c.name == each.name)
        connection.execute(delete(artifacts).where(*this))
        connection.execute(insert(artifacts).values(job=job, **msgspec.structs.asdict(each)))


class Left(NamedTuple):
    """What an attempt leaves behind for other jobs, and for people.

    host: where the job ran.
    sent: what the registry has of it by now.
    is_left: what later jobs get is on the host alone.
    is_unsent: the host has something to send.
    """

    host: str = ""
    sent: tuple[Artifact, ...] = ()
    is_left: bool = False
    is_unsent: bool = False


def note_left(connection: Connection, job: int, left: Left) -> None:
    """Write down where what a job output is, in the transaction that ends the job."""
    values = {"left_at": left.host if left.is_left else "", "to_send": left.host if left.is_unsent else ""}
    connection.execute(update(jobs).where(jobs.c.number == job).values(values))
    note_artifacts(connection, job, left.sent)


def send_again(connection: Connection) -> None:
    """Let hosts send anew what their jobs output, in the transaction that restores the jobs.

    The rows that say what the registry has are in no backup. What later jobs need is on its host alone until then.
    """
    going = jobs.c.run.in_(select(runs.c.number).where(runs.c.state.in_(_GOING)))
    here = and_(jobs.c.host != "", jobs.c.kind == "job", jobs.c.state.in_(HAVE_OUTCOME))
    is_needed = and_(here, going, or_(jobs.c.result.contains('"outputs":'), jobs.c.result.contains('"image":')))
    connection.execute(update(jobs).where(is_needed).values(left_at=jobs.c.host, to_send=jobs.c.host))
    is_for_people = and_(here, jobs.c.result.contains('"published":'))
    connection.execute(update(jobs).where(is_for_people).values(to_send=jobs.c.host))


def output_tag(run: int, place: int, name: str) -> str:
    """The tag of an output for people, in the repository of its run's domain. place: the job's."""
    return f"{run}-{place}-{name}"


def run_of_tag(tag: str) -> int | None:
    """The run of an ``output_tag``; None: it is none."""
    digits = tag.partition("-")[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def has_several_hosts(connection: Connection, now: float) -> bool:
    """Whether workers of more than one host have been heard of lately."""
    lately = select(func.count(func.distinct(workers.c.host))).where(
        workers.c.host != "", workers.c.heartbeat_at > now - ALIVE_S
    )
    return (connection.execute(lately).scalar() or 0) > 1


def is_wanted(now: float) -> ColumnElement[bool]:
    """Whether something of a job is still to be kept in the registry; for a query over ``artifacts``, jobs and runs."""
    of_run = and_(
        artifacts.c.kind != "output",
        or_(runs.c.finished_at.is_(None), runs.c.finished_at > now - KEPT_S, runs.c.state.not_in(FINAL_STATES)),
    )
    return or_(of_run, and_(artifacts.c.kind == "output", artifacts.c.until > now))


def _unsent(host: str, after: int = 0) -> Any:
    columns = (jobs.c.number, jobs.c.run, jobs.c.place, jobs.c.name, jobs.c.result, jobs.c.finished_at)
    wanted = select(*columns).where(jobs.c.to_send == host, jobs.c.state.in_(HAVE_OUTCOME), jobs.c.number > after)
    return wanted.order_by(jobs.c.number)


def _has_gates(connection: Connection, run: int) -> bool:
    """Whether a job of the run waits for people or for a group, or will."""
    row = connection.execute(select(runs.c.group_name, runs.c.state).where(runs.c.number == run)).first()
    if row is None or row.state in FINAL_STATES:
        return False
    of_jobs = select(jobs.c.group_name, jobs.c.node).where(jobs.c.run == run, jobs.c.state.in_(("waiting", "blocked")))
    return bool(row.group_name) or any(
        each.group_name or node_documents.decode(each.node).is_gate for each in connection.execute(of_jobs)
    )


def _artifact(row: Row[Any]) -> Artifact:
    return Artifact(
        row.kind, row.name, row.repository, row.manifest, row.content, row.blob, row.media_type, row.size, row.until
    )
