"""How a worker gets a job, keeps it, and loses it.

A claim is an UPDATE of a queued row that raises its attempt number. That number fences everything that the worker
writes afterwards.

The worker shows that it lives by raising the row's ``pulse``. The reaper (``pipelines.runs.reaper``) may give the job
to another worker once it has seen the same pulse for LEASE_S. Its own monotonic clock counts, and only while the
database takes writes. So no clock that is set, here or on another host, ever ends a lease, nor does a full disk.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection

from ci.ends import JobOutcome
from core.trust import Domain
from pipelines.accounts.runtokens import new_token
from pipelines.database import Database
from pipelines.errors import LeftToOthersError, QueueUnreachableError, StaleAttemptError, WorkerSickError
from pipelines.logs.lines import LogLine, decode_line, encode_line, text_size
from pipelines.logs.live import LiveLogs
from pipelines.logs.store import Line, store_lines
from pipelines.model import Claim, GitSource, Job, JobState, Run, RunResult
from pipelines.runs.choosing import Choice, Chooser
from pipelines.runs.faults import Blame, has_a_trial, may_try, note_fault, note_well, sickness
from pipelines.runs.groups import hand_over_at_once
from pipelines.runs.jobtimes import count_job
from pipelines.runs.rows import job_from_row, select_jobs
from pipelines.runs.states import follow_job, hold_run, hold_run_of
from pipelines.runs.trail import note_made
from pipelines.schema import jobs, runs

LEASE_S: Final = 15.0
RENEW_S: Final = 3.0
WATCH_S: Final = 0.4
"""How often a worker looks whether its job was cancelled."""

_TRIES: Final = 10
_TRY_AGAIN_S: Final = 0.03  # about as long as a claim holds a job
_log = logging.getLogger(__name__)


class _Fault(NamedTuple):
    """A fault of a machine: at which worker, and whether that worker may be to blame."""

    worker: str
    blame: Blame


def fence(connection: Connection, claim: Claim) -> None:
    """Hold the job for this transaction. Raises StaleAttemptError when the job is no longer this attempt's."""
    held = connection.execute(
        update(jobs)
        .where(jobs.c.number == claim.number, jobs.c.attempt == claim.attempt, jobs.c.state == "running")
        .values(pulse=jobs.c.pulse + 1, lease_until=time.time() + LEASE_S)
    )
    if held.rowcount != 1:
        raise StaleAttemptError(f"run {claim.run.number} is no longer attempt {claim.attempt}'s")


class Claims:
    """The worker's side of jobs. Thread-safe."""

    def __init__(self, database: Database, live: LiveLogs, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._live = live
        self._clock = clock

    def take(self, worker: str, labels: Sequence[str], host: str = "") -> Claim | None:
        """The best job that waits and may run on a worker with ``labels``; None when there is none.

        Higher priorities come first, then fair shares (``pipelines.runs.shares``). A project never gets more than its
        concurrency. A claim waits for no other: when others hold all that it finds, it soon looks again.
        host: the worker's; empty: unknown, and every job is as near to it as any other.
        Raises WorkerSickError when the worker is to take nothing for now, and LeftToOthersError when what waits is for
        the workers of another host first.
        """
        for _ in range(_TRIES):
            choice, claim = self._take(worker, labels, host)
            if choice.is_left and claim is None:
                raise LeftToOthersError("another host has what the job needs")
            if claim is not None or not choice.passed_by:
                return claim
            time.sleep(random.uniform(0, 2 * _TRY_AGAIN_S))  # noqa: S311 - so that those who met do not meet again
        return None

    def _take(self, worker: str, labels: Sequence[str], host: str) -> tuple[Choice, Claim | None]:
        now = self._clock()
        with self._database.write() as connection:
            found = sickness(connection, worker)
            if found is not None and (not may_try(found, now) or has_a_trial(connection, worker)):
                raise WorkerSickError(f"worker {worker} is sick: {found.why}")
            choice = Chooser(connection, worker, labels, now, sparing=found is not None, host=host).choose()
            if choice.number is None:
                return choice, None
            token, token_hash = new_token(choice.number)
            job = connection.execute(
                update(jobs)
                .where(jobs.c.number == choice.number, jobs.c.state == "queued")
                .values(
                    state="running", attempt=jobs.c.attempt + 1, worker=worker, host=host, started_at=now, reason="",
                    pulse=jobs.c.pulse + 1, lease_until=now + LEASE_S, token=token_hash,
                )
                .returning(
                    jobs.c.run, jobs.c.attempt, jobs.c.lines, jobs.c.kind, jobs.c.name, jobs.c.spec, jobs.c.failures
                )
            ).one()  # fmt: skip
            run = follow_job(connection, job.run, now)
            if not run.is_trusted:
                token = ""
                connection.execute(update(jobs).where(jobs.c.number == choice.number).values(token=token))
        return choice, Claim(
            run, choice.number, job.attempt, worker, job.lines + 1, token, job.kind, job.name, job.spec, job.failures
        )

    def renew(self, claim: Claim) -> None:
        """Show that the worker lives. Raises StaleAttemptError."""
        with self._database.write() as connection:
            fence(connection, claim)

    def why_cancelled(self, claim: Claim) -> str | None:
        """Why the job is to stop, for people; None: it is to go on. Raises StaleAttemptError when another has it."""
        with self._database.read() as connection:
            columns = (jobs.c.state, jobs.c.attempt, jobs.c.cancel_requested, jobs.c.reason)
            row = connection.execute(select(*columns).where(jobs.c.number == claim.number)).first()
        if row is None or row.state != "running" or row.attempt != claim.attempt:
            raise StaleAttemptError(f"run {claim.run.number} is no longer attempt {claim.attempt}'s")
        return str(row.reason) if row.cancel_requested else None

    def is_killed(self, claim: Claim) -> bool:
        """Whether a job that is to end is to do so at once: it, or its run, was cancelled a second time."""
        wanted = select(runs.c.stop, jobs.c.stop).where(jobs.c.number == claim.number, runs.c.number == jobs.c.run)
        with self._database.read() as connection:
            row = connection.execute(wanted).first()
        return row is not None and "now" in tuple(row)

    def settle_domain(self, claim: Claim, domain: Domain, source: GitSource, *, commit: str = "") -> None:
        """Write down for whom the run is, once for all of its attempts.

        source: what the run builds, without ambiguity.
        commit: that this is; empty: unknown.
        Raises StaleAttemptError.
        """
        document = msgspec.json.encode(source).decode()
        values = {"domain": domain.label, "source": document, **({"commit": commit} if commit else {})}
        number = claim.run.number
        with self._database.write() as connection:
            hold_run(connection, number)
            fence(connection, claim)
            connection.execute(update(runs).where(runs.c.number == number).values(values))

    def finish(
        self,
        claim: Claim,
        state: JobState,
        reason: str,
        result: RunResult | JobOutcome,
        *,
        store: Callable[[Connection], None],
    ) -> Run:
        """End the job, once; what comes after it goes on. Returns its run.

        store: stores the rest of its log in the same transaction.
        Raises StaleAttemptError.
        """
        why = func.coalesce(func.nullif(jobs.c.reason, ""), reason)  # whoever cancels a run says why
        with self._database.write() as connection:
            hold_run(connection, claim.run.number)
            fence(connection, claim)
            store(connection)
            connection.execute(
                update(jobs)
                .where(jobs.c.number == claim.number)
                .values(
                    state=state,
                    reason=why if state == "cancelled" else reason,
                    result=_document(result),
                    finished_at=self._clock(),
                )
            )
            if state in ("succeeded", "reused"):
                note_made(connection, claim.run.number, claim.number, result)
            if state in ("succeeded", "reused", "failed"):
                note_well(connection, claim.worker)
            run = follow_job(connection, claim.run.number, self._clock())
            if claim.kind == "job" and state in ("succeeded", "failed"):
                count_job(connection, claim.number)
        if claim.kind == "job":
            hand_over_at_once(self._database, self._clock(), run.project)
        return run

    def try_again(self, claim: Claim, reason: str, *, store: Callable[[Connection], None]) -> Run:
        """Let another attempt follow one that failed by itself. It does not count among those that machines spoiled.

        store: as for ``finish``. A job that is to end is not tried again: it has failed. Raises StaleAttemptError.
        """
        with self._database.write() as connection:
            hold_run(connection, claim.run.number)
            fence(connection, claim)
            store(connection)
            now = self._clock()
            this = update(jobs).where(jobs.c.number == claim.number)
            connection.execute(
                this.values(
                    state="queued", reason=reason, failures=jobs.c.failures + 1,
                    max_attempts=jobs.c.max_attempts + 1, queued_at=now, token="",
                )
            )  # fmt: skip
            note_well(connection, claim.worker)
            run = follow_job(connection, claim.run.number, now)
        self._forget_live(claim.number, claim.attempt)
        return run

    def release(self, number: int, attempt: int, why: str, *, pulse: int | None = None) -> Run | None:
        """Take the job from an attempt that cannot go on: back into the queue, or to its end after the last attempt.

        Stores what the attempt logged and nobody stored yet.
        number: the job's.
        pulse: release the job only if the attempt's pulse is still this one.
        Returns its run, or None when the attempt had lost it already.
        """
        return self._release(number, attempt, why, pulse=pulse)

    def fail(self, claim: Claim, why: str, blame: Blame) -> Run | None:
        """``release`` after a machine's fault: the next attempt comes later, at another worker if there is one.

        blame: whether this worker may be at fault; a few such faults make it sick.
        """
        return self._release(claim.number, claim.attempt, why, fault=_Fault(claim.worker, blame))

    def _release(
        self, number: int, attempt: int, why: str, *, pulse: int | None = None, fault: _Fault | None = None
    ) -> Run | None:
        with self._database.write() as connection:
            hold_run_of(connection, number)
            condition = [jobs.c.number == number, jobs.c.attempt == attempt, jobs.c.state == "running"]
            if pulse is not None:
                condition.append(jobs.c.pulse == pulse)
            held = connection.execute(update(jobs).where(*condition).values(pulse=jobs.c.pulse + 1))
            if held.rowcount != 1:
                return None
            job = job_from_row(connection.execute(select_jobs().where(jobs.c.number == number)).one())
            state, reason = _after(job, why)
            self._salvage(connection, job, reason)
            now = self._clock()
            changes = {"queued_at": now} if state == "queued" else {"finished_at": now, "result": "{}"}
            connection.execute(
                update(jobs).where(jobs.c.number == number).values(state=state, reason=reason, **changes)
            )
            if fault is not None:
                note_fault(connection, number, fault.worker, why, fault.blame, now)
            run = follow_job(connection, job.run, now)
        self._forget_live(number, attempt)
        hand_over_at_once(self._database, self._clock(), run.project)
        _log.warning("run %d: %s", job.run, reason)
        return run

    def _forget_live(self, number: int, attempt: int) -> None:
        """Let followers of an attempt that has ended look for the next one. Its lines are stored."""
        try:
            self._live.forget_taken(number, attempt)
        except QueueUnreachableError as error:
            _log.warning("job %d: %s", number, error)

    def _salvage(self, connection: Connection, job: Job, reason: str) -> None:
        """Store the attempt's live lines, and a line that says how the attempt ended."""
        following = job.lines + 1
        lines: list[Line] = []
        try:
            for batch in self._live.take_away(job.number, job.attempt):
                for line in batch.lines():
                    if line[0] == following:
                        lines.append(line)
                        following += 1
        except QueueUnreachableError as error:
            _log.warning("run %d: its last lines may be lost: %s", job.run, error)
        sizes = [text_size(decode_line(data).text) for _, data in lines]
        last = LogLine(following, "status", reason, self._clock())
        lines.append((following, encode_line(last)))
        store_lines(connection, job.number, job.attempt, lines, [*sizes, text_size(reason)])


def _document(result: RunResult | JobOutcome) -> str:
    return result.to_json() if isinstance(result, JobOutcome) else msgspec.json.encode(result).decode()


def _after(job: Job, why: str) -> tuple[JobState, str]:
    """State and reason of a job after an attempt that a fault ended."""
    told = f"attempt {job.attempt} of {job.max_attempts} came to nothing: {why}"
    if job.cancel_requested:
        return "cancelled", job.reason or "cancelled"
    if job.attempt >= job.max_attempts:
        return "error", told
    return "queued", told
