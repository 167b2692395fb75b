"""One attempt at one job of a run, from the claim to its one final state.

A step that fails ends the job for good. A fault of the machines puts the job back into the queue, until its attempts
are used up: a launcher that died, a full disk, a registry out of reach, a worker that has to stop.
``pipelines.runs.faults`` says when it is tried again, and what becomes of a worker with fault after fault.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
from sqlalchemy.engine import Connection

from builder.errors import ContextDamagedError, DockerfileNotFoundError
from ci.ends import JobOutcome
from ci.errors import DamagedRepositoryError
from containers.errors import ContainerError, PlaceError, UserError
from core.errors import ShiplapError, StorageFullError
from core.masking import Masker
from core.settings import Settings
from images.store import Store
from pipelines.accounts.runtokens import forget_token
from pipelines.endings import ended
from pipelines.errors import (
    DatabaseUnreachableError,
    NothingToBuildError,
    OutputsAwayError,
    SecretError,
    SourceUnreachableError,
    StaleAttemptError,
    UpstreamError,
)
from pipelines.model import Claim, JobState, Run, RunResult
from pipelines.runs.artifacts import note_left
from pipelines.runs.faults import Blame
from pipelines.runs.logwriter import LogWriter
from pipelines.runs.reports import keep_reports
from pipelines.runs.shells import note_failed_files
from pipelines.runs.waking import wake
from pipelines.sealing.vault import Held
from registry.errors import ResponseError, UnreachableError
from worker.building import Done, Pipelined, build_and_push
from worker.cacheexport import CacheExport, Outlet
from worker.jobs import JobDone, run_job
from worker.keptcaches import settle_caches
from worker.keptrows import settle_kept
from worker.leasekeeper import Keeper
from worker.planning import Pipelines, plan_pipelines
from worker.processresources import Resources
from worker.work import Work, is_trusted

_FINISH_PAUSE_S: Final = 0.5
_HERE: Final = (
    ContainerError,
    ContextDamagedError,
    DamagedRepositoryError,
    SecretError,
    StorageFullError,
    UpstreamError,
)
"""Errors that the worker may be to blame for."""

_OF_THE_BUILD: Final = (PlaceError, UserError)
"""Errors of containers that the image or the Dockerfile causes: they would come again."""

_ELSEWHERE: Final = (DatabaseUnreachableError, OutputsAwayError, SourceUnreachableError, UnreachableError)
"""Errors of servers that are away: these make no worker sick."""

_log = logging.getLogger(__name__)


class _Planned(NamedTuple):
    """A commit with pipeline files, and what is to be done with it."""

    found: Pipelined
    pipelines: Pipelines


class Execution:
    """Carries out one claim. ``interrupt`` may be called from a signal handler."""

    def __init__(self, claim: Claim, resources: Resources, outlet: Outlet) -> None:
        self._claim = claim
        self._outlet = outlet
        self._resources = resources
        self._service = resources.service
        self._began = time.monotonic()
        self._interrupted = False
        # A pipeline's job has a time-out of its own, which lets it end as its file says.
        timeout_s = math.inf if claim.kind == "job" else claim.run.options.timeout_s
        self._keeper = Keeper(claim, self._service.claims, timeout_s=timeout_s)

    def interrupt(self) -> None:
        """This process has to end: the run goes back into the queue."""
        self._interrupted = True
        self._keeper.stop("interrupted")

    def run(self) -> None:
        """Build, push, and end the run, whatever happens on the way."""
        claim = self._claim
        with self._keeper:
            try:
                held = self._keeper.insist(self._secrets)
            except ShiplapError as error:
                self._settle(self._writer(Masker()), error)
                return
            writer = self._writer(Masker(held.values()))
            settled = False
            try:
                writer.status(f"attempt {claim.attempt} of {claim.run.max_attempts} on worker {claim.worker}")
                self._attempt(writer, held)
                settled = True
            finally:
                if not settled:  # a bug of ours: the traceback goes to the worker's log
                    self._fail(writer, "an internal error, see the worker's log", "worker")

    def _writer(self, masker: Masker) -> LogWriter:
        return LogWriter(
            self._claim, self._service.database, self._service.live, masker, lost=lambda: self._keeper.stop("lost")
        )

    def _secrets(self) -> Held:
        """The secrets of the run's project, and those that the run came with; none for a run that is not trusted.

        All of them are masked in its log: which ones it gets may be known only when its commit was fetched.
        """
        run = self._claim.run
        if not is_trusted(self._claim):
            return Held()
        first = None
        if run.own_secrets:
            first = self._claim.number if self._claim.kind == "build" else self._service.pipelines.first_job(run.number)
        own, named = run.own_secrets, run.options.secrets
        return self._service.secrets.hold(run.project, named=named, own=own, job=first)

    def _attempt(self, writer: LogWriter, held: Held) -> None:
        try:
            # A session of its own: what the run used may be pruned after the run, however long this process lives.
            with Store.open(self._service.settings.root) as store:
                scratch = store.tmp / "run"
                scratch.mkdir(mode=0o700)
                work = Work(self._claim, self._resources, store, held, scratch, self._keeper)
                if self._claim.kind == "job":
                    self._end_job(work, writer, run_job(work, writer))
                    return
                done = build_and_push(work, writer, lambda found: _Planned(found, plan_pipelines(work, found, writer)))
                if isinstance(done, _Planned):
                    self._end_planning(work, writer, done)
                else:
                    self._succeed(writer, done)
        except ShiplapError as error:
            self._settle(writer, error)

    def _succeed(self, writer: LogWriter, done: Done) -> None:
        """End the run. Its part of the shared cache is written later, while the next runs go on."""
        store = self._with_token(writer.store, () if done.export is None else (done.export,))
        result = msgspec.structs.replace(done.result, duration_s=self._duration())
        self._end(writer, "succeeded", "", result, store)

    def _with_token(
        self, store: Callable[[Connection], None], exports: Sequence[CacheExport]
    ) -> Callable[[Connection], None]:
        """Hand over what is left for the shared cache. Returns what stores as ``store`` does, and has the attempt's
        token forgotten unless that is needed for the cache.
        """
        taken = [self._outlet.offer(export) for export in exports]

        def store_and_forget(connection: Connection) -> None:
            store(connection)
            if not any(taken):
                forget_token(connection, self._claim.number, self._claim.attempt)

        return store_and_forget

    def _end_planning(self, work: Work, writer: LogWriter, done: _Planned) -> None:
        """Make the run that of a pipeline, and runs for the commit's others: the claim ends by that."""
        found, planned = done
        mark = found.project.hook.status_context if found.project.reports_status else ""
        writer.close()

        def write() -> None:
            self._service.pipelines.write(
                self._claim,
                planned.planners,
                mark=mark,
                own_secrets=work.held.own,
                store=writer.store,
                times=planned.times,
                host=self._resources.host,
            )
            writer.end()

        self._write(write)

    def _end_job(self, work: Work, writer: LogWriter, done: JobDone) -> None:
        """End a job of a pipeline, or let it be tried again; what comes after it goes on in the same transaction."""
        outcome = done.outcome

        def store(connection: Connection) -> None:
            writer.store(connection)
            if done.reports is not None:
                keep_reports(connection, self._claim, done.reports, time.time())
            if not done.is_tried_again:
                note_left(connection, self._claim.number, done.left)
            if done.failed_files is not None:
                note_failed_files(
                    connection, self._claim.number, self._resources.host, done.failed_files, done.failed_until
                )

        if done.is_tried_again:
            writer.close()
            writer.add_last(f"{ended('failed', outcome.message)}; it is tried again")

            def give_back() -> None:
                self._service.claims.try_again(self._claim, outcome.message.partition("\n")[0], store=store)

            self._write(give_back)
            return
        ends = self._with_token(store, done.exports)
        run = self._end(writer, outcome.state, outcome.message, outcome, ends)
        if run is not None and run.is_final:
            self._keeper.insist(lambda: settle_kept(self._service.database, work.store.kept, time.time()))
        if done.has_caches:
            settle_caches(work.store, Settings.from_environ().cache_max)

    def _settle(self, writer: LogWriter, error: ShiplapError) -> None:
        """End the run, or give it back, depending on the error."""
        if isinstance(error, NothingToBuildError):
            self._end(writer, "succeeded", error.message, RunResult(duration_s=self._duration()))
        elif isinstance(error, StaleAttemptError):
            self._keeper.stop("lost")
            self._stopped(writer)
        elif self._keeper.stopped.is_set():  # whatever the error is, the stop caused it
            self._stopped(writer)
        elif (blame := _machines_fault(error)) is not None:
            if isinstance(error, ContainerError):
                self._resources.renew_launcher()
            self._fail(writer, _told(error), blame)
        elif self._claim.kind == "job":
            self._end(writer, "failed", error.message.partition("\n")[0], JobOutcome("failed", _told(error)))
        else:
            found = error.found if isinstance(error, DockerfileNotFoundError) else None
            result = RunResult(error=_told(error), duration_s=self._duration(), dockerfiles=found)
            self._end(writer, "failed", error.message.partition("\n")[0], result)

    def _stopped(self, writer: LogWriter) -> None:
        timeout_s = self._claim.run.options.timeout_s
        match self._keeper.why:
            case "cancelled":
                self._end(writer, "cancelled", self._keeper.told, RunResult(duration_s=self._duration()))
            case "timeout":
                told = f"stopped after {timeout_s} s, the run's time-out"
                self._end(writer, "failed", told, RunResult(error=told, duration_s=self._duration()))
            case "lost":
                _log.warning("run %d: attempt %d lost it", self._claim.run.number, self._claim.attempt)
                self._give_back(writer, "its worker could not reach the database")  # if nobody has it yet
            case _:
                self._give_back(writer, "its worker was told to stop, or lost its connection to the queue")

    def _end(
        self,
        writer: LogWriter,
        state: JobState,
        reason: str,
        result: RunResult | JobOutcome,
        store: Callable[[Connection], None] | None = None,
    ) -> Run | None:
        """Store the rest of the log and the final state in one transaction, however long the database is away.

        store: stores the log, and what else belongs into the transaction.
        Returns the job's run; None when the job was another attempt's by then.
        """
        writer.close()
        writer.add_last(ended(state, reason))
        masked = _masked(result, writer)
        found: list[Run] = []

        def finish() -> None:
            why = writer.masked(reason).partition("\n")[0] if self._claim.kind == "job" else writer.masked(reason)
            run = self._service.claims.finish(self._claim, state, why, masked, store=store or writer.store)
            found.append(run)
            writer.end()

        self._write(finish)
        return found[0] if found else None

    def _give_back(self, writer: LogWriter, why: str) -> None:
        """Let another attempt do the run, if the run may have one."""
        self._return(
            writer, why, lambda told: self._service.claims.release(self._claim.number, self._claim.attempt, told)
        )

    def _fail(self, writer: LogWriter, why: str, blame: Blame) -> None:
        """``_give_back`` after a machine's fault: the next attempt is later, at another worker if there is one."""
        self._return(writer, why, lambda told: self._service.claims.fail(self._claim, told, blame))

    def _return(self, writer: LogWriter, why: str, release: Callable[[str], object]) -> None:
        writer.close()
        told = writer.masked(why).partition("\n")[0]

        def write() -> None:
            writer.store_now()
            release(told)

        self._write(write)

    def _write(self, write: Callable[[], None]) -> None:
        """Write the attempt's end, however long the database is away: without it there is no other run to take.

        What may start now is told to the workers at once, while this attempt is being put away.
        """
        while True:
            try:
                write()
                wake(self._service.database, self._service.queue)
                return
            except StaleAttemptError as error:
                _log.warning("run %d: its result comes too late: %s", self._claim.run.number, error)
                return
            except DatabaseUnreachableError as error:
                _log.warning("run %d: its end waits for the database: %s", self._claim.run.number, error)
                if self._interrupted:
                    _log.warning("run %d is left to the reaper", self._claim.run.number)
                    return
                time.sleep(_FINISH_PAUSE_S)

    def _duration(self) -> float:
        return time.monotonic() - self._began


def _masked(result: RunResult | JobOutcome, writer: LogWriter) -> RunResult | JobOutcome:
    if isinstance(result, JobOutcome):
        return msgspec.structs.replace(result, message=writer.masked(result.message))
    dockerfiles = result.dockerfiles
    return msgspec.structs.replace(
        result,
        error=writer.masked(result.error),
        dockerfiles=None if dockerfiles is None else tuple(map(writer.masked, dockerfiles)),
    )


def _machines_fault(error: BaseException | None) -> Blame | None:
    """Whose fault it is, if the same run may succeed later; None: the fault is the run's own, and it would fail again.

    The causes behind an error with a place in the Dockerfile count, too.
    """
    while error is not None:
        if isinstance(error, _ELSEWHERE) or (isinstance(error, ResponseError) and error.retryable):
            return "elsewhere"
        if isinstance(error, _HERE) and not isinstance(error, _OF_THE_BUILD):
            return "worker"
        error = error.__cause__
    return None


def _told(error: ShiplapError) -> str:
    """The whole message for people: with the place in the Dockerfile where there is one."""
    render = getattr(error, "render", None)
    if render is not None:
        return str(render())
    return error.message + (f"\nhint: {error.hint}" if error.hint else "")
