"""Gates: who may answer them, and the answer, which is one transaction with what it lets go on and its audit entry."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Select, select
from sqlalchemy.engine import Connection, Row

from ci.gates import why_late
from ci.graph import jobs_before
from pipelines.accounts.audit import add_entry, printable
from pipelines.database import Database
from pipelines.errors import ConflictError, DeniedError, NotFoundError
from pipelines.model import FIRST_PLACE, Run, Trigger
from pipelines.runs.authors import author_of, is_same
from pipelines.runs.gaterows import Changes, Decision, GateTerms, SummaryTold, content_of, decide, terms_of
from pipelines.runs.graphs import graph_of, plans
from pipelines.runs.groups import hand_over_at_once
from pipelines.runs.queue import Queue
from pipelines.runs.states import follow_job, hold_run
from pipelines.runs.waking import wake
from pipelines.schema import gates, jobs, runs, users

_LONGEST_COMMENT: Final = 1000
_triggers: Final = msgspec.json.Decoder(Trigger)


class Approver(NamedTuple):
    """Somebody who may maintain the project, and answers.

    actor: their name in the trail and in the run.
    user: of the service; empty: a robot.
    address: of the client.
    """

    actor: str
    user: str
    address: str = ""


class Approval(NamedTuple):
    """Somebody's yes. run: that was approved. timeout_s: for how long it counts after ``decided_at``."""

    run: int
    by: str
    decided_at: float
    timeout_s: float


class GateView(msgspec.Struct, frozen=True):
    """What a gate asks, and what came of it. Times are seconds since the epoch.

    by: who may answer; empty: all who may maintain the project.
    not_author: the author of the run may not.
    author: of the run: a login at the forge, or a user; empty: not known.
    opened_at: null: its turn has not come.
    due_at: nobody's answer until then is a no.
    decision: empty: there is none.
    taken_from: the run in which it was approved; 0: in this one.
    changes: since the run that was approved last; null: none was.
    summaries: of jobs before it.
    missing: secrets that jobs after it lacked when the run was planned; a sentence for each.
    """

    message: str
    by: tuple[str, ...]
    not_author: bool
    author: str
    opened_at: float | None
    due_at: float | None
    decision: Decision
    decided_by: str
    decided_at: float | None
    comment: str
    taken_from: int
    changes: Changes | None
    summaries: tuple[SummaryTold, ...] = ()
    missing: tuple[str, ...] = ()


class OpenGate(NamedTuple):
    """A gate that waits for an answer. opened_at: in seconds since the epoch."""

    run: int
    place: int
    project: str
    name: str
    question: str
    opened_at: float


class Gates:
    """The gates of all runs. Thread-safe."""

    def __init__(self, database: Database, queue: Queue, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._queue = queue
        self._clock = clock

    def view(self, run: int, place: int) -> GateView | None:
        """What the gate with this place in a run asks; None: the job is no gate."""
        with self._database.read() as connection:
            row = _row(connection, run, place)
            if row is None:
                return None
            terms = terms_of.decode(row.terms)
            changes = _as_of_now(connection, row, terms)
        return GateView(
            terms.message, terms.by, terms.not_author, author_of(_triggers.decode(row.trigger)), row.opened_at,
            row.due_at, row.decision, row.decided_by, row.decided_at, row.comment, row.taken_from, changes,
            terms.summaries, terms.missing,
        )  # fmt: skip

    def open(self, *, projects: Collection[str] | None = None, limit: int = 100) -> list[OpenGate]:
        """The gates that wait for an answer, the newest first. projects: only of these."""
        wanted = select(gates.c.terms, gates.c.opened_at, jobs.c.run, jobs.c.place, jobs.c.name, runs.c.project)
        wanted = wanted.join(jobs, jobs.c.number == gates.c.job).join(runs, runs.c.number == jobs.c.run)
        wanted = wanted.where(jobs.c.state == "blocked", gates.c.decision == "", gates.c.opened_at.is_not(None))
        if projects is not None:
            wanted = wanted.where(runs.c.project.in_(projects))
        with self._database.read() as connection:
            rows = connection.execute(wanted.order_by(jobs.c.number.desc()).limit(limit)).all()
        return [
            OpenGate(
                row.run, row.place, row.project, row.name,
                next(iter(terms_of.decode(row.terms).message.splitlines()), ""), row.opened_at,
            )
            for row in rows
        ]  # fmt: skip

    def why_not(self, run: int, place: int, user: str) -> str:
        """Why somebody who may maintain the project may not answer all the same; empty: they may."""
        with self._database.read() as connection:
            row = _row(connection, run, place)
            if row is None:
                return "it is no gate"
            return _why_not(connection, terms_of.decode(row.terms), _triggers.decode(row.trigger), user)

    def answer(self, run: int, place: int, by: Approver, *, is_yes: bool, comment: str = "") -> None:
        """Let a gate open, or fail: once, whoever comes first. What goes on then is in the same transaction.

        Raises NotFoundError, DeniedError for who may not, and ConflictError where nothing waits for an answer.
        """
        now, told = self._clock(), printable(comment)[:_LONGEST_COMMENT]
        with self._database.write() as connection:
            hold_run(connection, run)
            row = _row(connection, run, place)
            if row is None:
                raise _no_gate(connection, run, place)
            _check_waits(row)
            trigger = _triggers.decode(row.trigger)
            why = _why_not(connection, terms_of.decode(row.terms), trigger, by.user)
            if why:
                raise DeniedError(f"{by.actor} may not answer {row.name}: {why}")
            decision: Decision = "approved" if is_yes else "refused"
            reason = f"{decision} by {by.actor}" + (f": {told}" if told else "")
            content = _content(connection, row)
            decide(connection, row.job, decision, reason, now, by=by.actor, comment=told, content=content)
            action, subject = ("approve gate" if is_yes else "refuse gate"), f"run={run} job={row.name}"
            add_entry(connection, now, by.actor, action, subject, told, address=by.address, project=row.project)
            follow_job(connection, run, now)
        hand_over_at_once(self._database, now, row.project)
        wake(self._database, self._queue)

    def approval(self, run: int, name: str) -> Approval | None:
        """The approval that a gate of a run has; None: it has none."""
        wanted = select(gates).join(jobs, jobs.c.number == gates.c.job)
        wanted = wanted.where(jobs.c.run == run, jobs.c.name == name, gates.c.decision == "approved")
        with self._database.read() as connection:
            row = connection.execute(wanted).first()
        if row is None:
            return None
        return Approval(row.taken_from or run, row.decided_by, row.decided_at, terms_of.decode(row.terms).timeout_s)

    def last_approved(self, run: Run, pipeline: str, gate: str) -> tuple[int, str] | None:
        """The run of the pipeline in the same domain that was approved last at this gate, and its commit."""
        with self._database.read() as connection:
            return _last_approved(connection, run.number, run.project, pipeline, gate)


def end_late_gates(database: Database, now: float) -> int:
    """Let the gates fail that nobody answered in time. Returns how many."""
    late = select(jobs.c.run, jobs.c.place).join(gates, gates.c.job == jobs.c.number)
    late = late.where(jobs.c.state == "blocked", gates.c.decision == "", gates.c.due_at <= now)
    with database.read() as connection:
        found = connection.execute(late).all()
    for run, place in found:
        with database.write() as connection:
            hold_run(connection, run)
            row = _row(connection, run, place)
            if row is None or row.state != "blocked":
                continue
            decide(connection, row.job, "late", why_late(terms_of.decode(row.terms).timeout_s), now)
            follow_job(connection, run, now)
    return len(found)


def questions(connection: Connection, numbers: Sequence[int]) -> dict[int, str]:
    """By the numbers of the jobs of these runs that wait for an answer, what each asks, as why it waits."""
    found = {}
    for row in connection.execute(_gates().where(jobs.c.run.in_(numbers), jobs.c.state == "blocked")).all():
        asked, *_ = terms_of.decode(row.terms).message.splitlines()
        found[row.job] = f"waits for an answer: {asked}"
    return found


def _gates() -> Select[Any]:
    """Gates with their jobs and runs."""
    its = (jobs.c.run, jobs.c.name, jobs.c.state, runs.c.project, runs.c.pipeline, runs.c.trigger)
    wanted = select(gates, *its, runs.c.plan).join(jobs, jobs.c.number == gates.c.job)
    return wanted.join(runs, runs.c.number == jobs.c.run)


def _row(connection: Connection, run: int, place: int) -> Row[Any] | None:
    """A gate with its job and its run; None: the job is none, or there is no such job."""
    return connection.execute(_gates().where(jobs.c.run == run, jobs.c.place == place)).first()


def _no_gate(connection: Connection, run: int, place: int) -> ConflictError | NotFoundError:
    name = connection.execute(select(jobs.c.name).where(jobs.c.run == run, jobs.c.place == place)).scalar()
    if name is None:
        return NotFoundError(f"run {run} has no job {place}")
    hint = "its pipeline is not planned yet" if place == FIRST_PLACE else ""
    return ConflictError(f"job {name} of run {run} is no gate: it asks nobody", hint=hint)


def _check_waits(row: Row[Any]) -> None:
    """Raise ConflictError where a gate waits for no answer."""
    if row.state == "blocked":
        return
    if row.decision in ("approved", "refused"):
        raise ConflictError(f"{row.name} of run {row.run} was {row.decision} already, by {row.decided_by}")
    if row.state == "waiting":
        raise ConflictError(f"{row.name} of run {row.run} asks nobody yet: jobs before it have not ended")
    told = why_late(terms_of.decode(row.terms).timeout_s) if row.decision == "late" else f"it has ended: {row.state}"
    raise ConflictError(f"{row.name} of run {row.run} asks nobody any more: {told}")


def _why_not(connection: Connection, terms: GateTerms, trigger: Trigger, user: str) -> str:
    if not user:
        return "it asks people, and a robot's token may be anybody's" if terms.by or terms.not_author else ""
    if terms.by and user not in terms.by:
        return f"it asks {', '.join(terms.by)}"
    if not terms.not_author:
        return ""
    author = author_of(trigger)
    if is_same(author, user):
        return f"the run is of {author}, and somebody else has to answer"
    known = connection.execute(select(users.c.name).where(users.c.name == author.casefold())).first()
    if known is None:
        who = f"{author} is no user here" if author else "nobody knows who made the run"
        return f"somebody else than the run's author has to answer, and {who}"
    return ""


def _last_approved(
    connection: Connection, number: int, project: str, pipeline: str, gate: str
) -> tuple[int, str] | None:
    """The other run in a run's domain that was approved last at a gate of its pipeline, and its commit."""
    domain = select(runs.c.domain).where(runs.c.number == number).scalar_subquery()  # settled since the claim
    of_it = (runs.c.project == project, runs.c.pipeline == pipeline, runs.c.domain == domain, runs.c.number != number)
    wanted = select(runs.c.number, runs.c.plan).join(jobs, jobs.c.run == runs.c.number)
    wanted = wanted.join(gates, gates.c.job == jobs.c.number).where(*of_it, jobs.c.name == gate)
    wanted = wanted.where(gates.c.decision == "approved", gates.c.taken_from == 0)
    row = connection.execute(wanted.order_by(gates.c.decided_at.desc()).limit(1)).first()
    return None if row is None else (row.number, plans.decode(row.plan).commit)


def _content(connection: Connection, row: Row[Any]) -> str:
    before = jobs_before([each.node for each in graph_of(connection, row.run)])
    mine = [name for name in before if name in before[row.name]]
    return content_of(connection, row.run, plans.decode(row.plan).commit, mine)


def _as_of_now(connection: Connection, row: Row[Any], terms: GateTerms) -> Changes | None:
    """What changed, without the commits that somebody has approved since this run was planned."""
    changes = terms.changes
    if changes is None or not changes.commits:
        return changes
    last = _last_approved(connection, row.run, row.project, row.pipeline, row.name)
    if last is None or last[0] == changes.run:
        return changes
    number, commit = last
    place = next((place for place, each in enumerate(changes.commits) if each.id == commit), None)
    if place is None:
        return changes
    return Changes(number, commit, changes.commits[:place], place, 0)
