"""Runs of pipelines, from the worker's side: writing down what was planned, and what a job of it is done with.

A run is submitted as a build, for nobody has read the repository yet. The worker that claims it finds the pipeline
files. Then the run becomes the first pipeline's, and each of the others gets a run of its own in the same transaction:
either all of them are there, or the attempt left nothing and the next one plans again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, insert, literal, select, update
from sqlalchemy.engine import Connection

from ci.ends import JobOutcome
from ci.graph import JobNode, jobs_before
from ci.model import Schedule
from pipelines.database import Database
from pipelines.errors import DeniedError, InvalidRequestError
from pipelines.logs.lines import LogLine, encode_line, text_size
from pipelines.logs.store import store_lines
from pipelines.model import FIRST_PLACE, Claim, Run, RunResult, RunState, Trigger
from pipelines.runs.claims import fence
from pipelines.runs.gaterows import GateTerms, add_gate
from pipelines.runs.graphs import RunPlan, graph_of, node_document, plans, stop_pipeline
from pipelines.runs.groups import hand_over_at_once
from pipelines.runs.ownpulls import held_requests
from pipelines.runs.queue import check_labels
from pipelines.runs.rollups import note_head
from pipelines.runs.rows import was_entered
from pipelines.runs.runs import Runs
from pipelines.runs.schedules import write_schedules
from pipelines.runs.states import follow_job, hold_run
from pipelines.runs.texts import note_text
from pipelines.schema import jobs, run_images, runs
from pipelines.sealing.vault import Secrets
from pipelines.statuses.outbox import note_handed_over

PLANNING: Final = ".plan"
"""The name of the job that plans. No job of a file can have it."""

_log = logging.getLogger(__name__)
_LOOKED_AT: Final = 100
"""How many runs of a branch are looked through for those of the same event."""

_GOOD: Final = ("succeeded", "warnings")
_JOB_IS_GOOD: Final = ("succeeded", "reused")
_HAS_RESULT: Final = ("succeeded", "reused", "failed")


class PlannedWork(msgspec.Struct, frozen=True):
    """A job of a plan as it is queued.

    spec: ``PlannedJob.to_data``.
    labels: a worker has to have all of them.
    taken: the result that it has from another run; None: it is done.
    gate: what people are asked; None: a worker does it.
    """

    node: JobNode
    spec: dict[str, Any]
    labels: tuple[str, ...] = ()
    taken: JobOutcome | None = None
    gate: GateTerms | None = None


class PlannedRun(msgspec.Struct, frozen=True):
    """A pipeline as it is to be run.

    error: why it cannot be, for people; empty where it can.
    summary: the same in a line; empty: it is the first line of the error.
    warnings: for the log of the planning.
    """

    pipeline: str
    plan: RunPlan
    jobs: tuple[PlannedWork, ...] = ()
    error: str = ""
    summary: str = ""
    warnings: tuple[str, ...] = ()


class JobBasis(msgspec.Struct, frozen=True):
    """What a job of a pipeline goes by.

    before: by job, in the order of the file, all that have to end before it.
    outcomes: of the jobs that ended, and have one.
    late_at: when the run's time is over.
    place: the claimed job's, in its run.
    """

    plan: RunPlan
    late_at: float
    before: dict[str, frozenset[str]]
    outcomes: dict[str, JobOutcome]
    place: int


Times: TypeAlias = Mapping[str, Sequence[Schedule] | None]
"""By pipeline, when it runs by itself; None: its file is wrong."""


class Pipelines:
    """The pipelines of all runs. Thread-safe."""

    def __init__(
        self, database: Database, secrets: Secrets, submitted: Runs, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._submitted = submitted
        self._clock = clock

    def write(
        self,
        claim: Claim,
        planned: Sequence[tuple[str, Callable[[int], PlannedRun]]],
        *,
        mark: str,
        own_secrets: Mapping[str, bytes],
        store: Callable[[Connection], None],
        times: Times | None = None,
        host: str = "",
    ) -> list[int]:
        """Make a claimed run that of the first pipeline, and a run for each of the others; the claim ends with it.

        planned: the pipelines by name, each with what plans it for the run of a number, without asking anybody.
        mark: what the project's marks at commits are called; empty for a run that marks none.
        own_secrets: that came with the run; each of the runs gets them.
        store: stores the rest of the planning's log.
        times: when the pipelines run by themselves; None: this commit says nothing of that.
        host: which has what jobs take over from another run.
        Returns the numbers of the runs, in order; none when the run was cancelled while it was planned.
        Raises StaleAttemptError.
        """
        numbers = [claim.run.number]
        with self._database.write() as connection:
            hold_run(connection, claim.run.number)
            fence(connection, claim)
            store(connection)
            now = self._clock()
            if _is_cancelled(connection, claim, now):
                return []
            (_, first), *others = planned
            found = first(claim.run.number)
            if mark:
                note_handed_over(connection, claim.run, [_context(mark, name) for name, _ in planned], now)
            self._become(connection, claim, found, mark, now, host)
            for _, plan in others:
                numbers.append(self._add(connection, claim, plan, mark, own_secrets, now))
            for number in numbers:  # once all are planned: some end at once, and then all who end runs wait for us
                follow_job(connection, number, now)
            self._begin_held(connection, claim.run.number)
            if times is not None:
                write_schedules(connection, claim.run.project, claim.run.number, times, now)
        hand_over_at_once(self._database, self._clock(), claim.run.project)
        return numbers

    def _begin_held(self, connection: Connection, run: int) -> None:
        """Begin the runs of pull requests that waited for this one to find pipelines; they are queued like any other.

        The reaper and the end of the claim wake workers for them.
        """
        document = connection.execute(select(runs.c.held).where(runs.c.number == run)).scalar_one()
        for request, trigger in held_requests(document):
            try:
                self._submitted.insert(connection, request, trigger)
            except (InvalidRequestError, DeniedError) as error:  # settings changed since it was asked for
                _log.warning("run %d: no run for pull request %d: %s", run, trigger.pull_request, error.message)
        connection.execute(update(runs).where(runs.c.number == run).values(held=""))

    def basis(self, claim: Claim) -> JobBasis:
        """What the claimed job goes by."""
        number = claim.run.number
        with self._database.read() as connection:
            row = connection.execute(select(runs.c.plan, runs.c.late_at).where(runs.c.number == number)).one()
            graph = graph_of(connection, number)
            ended = connection.execute(
                select(jobs.c.name, jobs.c.result).where(
                    jobs.c.run == number, jobs.c.place > FIRST_PLACE, jobs.c.state.in_(_HAS_RESULT)
                )
            ).all()
        outcomes = {row.name: JobOutcome.from_json(row.result) for row in ended}
        before = jobs_before([each.node for each in graph])
        place = next(each.place for each in graph if each.number == claim.number)
        return JobBasis(plans.decode(row.plan), row.late_at, before, outcomes, place)

    def results(self, run: int) -> dict[str, JobOutcome | None]:
        """By job of a run's pipeline, what came of it. Empty for a run that is gone.

        None: it did not succeed, or somebody had a shell in it, so that nobody knows what made its result.
        """
        columns = (jobs.c.name, jobs.c.state, jobs.c.result, jobs.c.attempt, jobs.c.entered)
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).where(jobs.c.run == run, jobs.c.place > FIRST_PLACE)).all()
        is_good = {row.name: row.state in _JOB_IS_GOOD and not was_entered(row) for row in rows}
        return {row.name: JobOutcome.from_json(row.result) if is_good[row.name] else None for row in rows}

    def plan_of(self, run: int) -> RunPlan:
        """What the jobs of a pipeline's run have in common."""
        with self._database.read() as connection:
            return plans.decode(connection.execute(select(runs.c.plan).where(runs.c.number == run)).scalar_one())

    def pipeline_of(self, run: int) -> str:
        """The pipeline of a run; empty for a build alone, and for a run that is not there any more."""
        with self._database.read() as connection:
            return str(connection.execute(select(runs.c.pipeline).where(runs.c.number == run)).scalar() or "")

    def first_job(self, run: int) -> int:
        """The number of the run's first job, which has the secrets that came with the run."""
        with self._database.read() as connection:
            wanted = select(jobs.c.number).where(jobs.c.run == run, jobs.c.place == FIRST_PLACE)
            return int(connection.execute(wanted).scalar_one())

    def get_image(self, run: int, name: str) -> str | None:
        """What a name of an image means in a run; None: nobody has asked yet."""
        with self._database.read() as connection:
            wanted = select(run_images.c.meaning).where(run_images.c.run == run, run_images.c.name == name)
            return connection.execute(wanted).scalar()

    def keep_image(self, claim: Claim, name: str, meaning: str) -> str:
        """Note what a name of an image means in a run; returns what counts: another job may have noted it before.

        Raises StaleAttemptError.
        """
        run = claim.run.number
        with self._database.write() as connection:
            hold_run(connection, run)
            fence(connection, claim)
            wanted = select(run_images.c.meaning).where(run_images.c.run == run, run_images.c.name == name)
            known = connection.execute(wanted).scalar()
            if known is not None:
                return str(known)
            connection.execute(insert(run_images).values(run=run, name=name, meaning=meaning))
            return meaning

    def last_success(self, run: Run, pipeline: str, branch: str, commit: str) -> str:
        """The commit of the branch with which this pipeline succeeded last; empty where there is none.

        Counts runs of the same event in the same domain that had jobs: what did not listen has tried nothing, and a
        fork's branch may be called main, too.
        run: that is planned.
        commit: of that run, which does not count: repeated, it is all run again.
        """
        found = self._like(run, pipeline, branch, runs.c.state.in_(_GOOD))
        like = (plan for plan in found if plan.facts.get("SHIPLAP_EVENT") == run.trigger.kind)
        good = (plan.commit for plan in like if not plan.is_partial)
        return next((other for other in good if other != commit), "")

    def before(self, run: Run, pipeline: str, branch: str) -> str:
        """The commit that the branch of a run was at until its push.

        Empty where there was none, or where this pipeline was run with it and did not succeed: then it says nothing.
        """
        with self._database.read() as connection:
            before = str(connection.execute(select(runs.c.before).where(runs.c.number == run.number)).scalar() or "")
        others = self._like(run, pipeline, branch, runs.c.state.not_in(_GOOD)) if before else []
        return "" if any(plan.commit == before for plan in others) else before

    def _like(self, run: Run, pipeline: str, branch: str, condition: ColumnElement[bool]) -> list[RunPlan]:
        """The plans of the branch's other runs that had jobs, or should have had, the newest first."""
        of_it = (runs.c.project == run.project, runs.c.branch == branch, runs.c.pipeline == pipeline)
        domain = select(runs.c.domain).where(runs.c.number == run.number).scalar_subquery()  # settled since the claim
        wanted = select(runs.c.plan).where(*of_it, condition, runs.c.domain == domain)
        wanted = wanted.where(runs.c.number != run.number).order_by(runs.c.number.desc()).limit(_LOOKED_AT)
        with self._database.read() as connection:
            found = [plans.decode(row.plan) for row in connection.execute(wanted)]
        return [plan for plan in found if not plan.reason]

    def _become(
        self, connection: Connection, claim: Claim, found: PlannedRun, mark: str, now: float, host: str
    ) -> None:
        """Let the claimed run be a pipeline's. Its first job has ended by that."""
        number = claim.run.number
        state, reason, result = _end_of_planning(found)
        if claim.run.trigger.retry_of:  # what images meant in the run before, they mean in this one
            before = select(literal(number), run_images.c.name, run_images.c.meaning)
            before = before.where(run_images.c.run == claim.run.trigger.retry_of)
            connection.execute(insert(run_images).from_select(["run", "name", "meaning"], before))
        this = update(jobs).where(jobs.c.number == claim.number)
        connection.execute(
            this.values(kind="plan", name=PLANNING, state=state, reason=reason, result=result, finished_at=now)
        )
        self._describe(connection, claim.run, number, found, mark, now, host)

    def _add(
        self,
        connection: Connection,
        claim: Claim,
        plan: Callable[[int], PlannedRun],
        mark: str,
        own_secrets: Mapping[str, bytes],
        now: float,
    ) -> int:
        """Make a run for one more pipeline. It was planned in the first one's job, and says so in its log."""
        source = (
            runs.c.project,
            runs.c.priority,
            runs.c.source,
            runs.c.trigger,
            runs.c.branch,
            runs.c.domain,
            runs.c.before,
        )
        asked = connection.execute(select(*source).where(runs.c.number == claim.run.number)).one()
        number: int = connection.execute(
            insert(runs).values(**asked._mapping, state="running", created_at=now).returning(runs.c.number)
        ).scalar_one()
        note_head(connection, claim.run.project, number, claim.run.trigger)
        note_text(connection, number, claim.run.project, claim.run.source, claim.run.trigger, claim.run.options)
        found = plan(number)
        state, reason, result = _end_of_planning(found)
        options = (jobs.c.spec, jobs.c.max_attempts, jobs.c.worker_labels, jobs.c.own_secrets, jobs.c.started_at)
        job = connection.execute(select(*options).where(jobs.c.number == claim.number)).one()
        first: int = connection.execute(
            insert(jobs)
            .values(
                **job._mapping, run=number, place=FIRST_PLACE, name=PLANNING, kind="plan", state=state, reason=reason,
                result=result, attempt=1, worker=claim.worker, queued_at=job.started_at, finished_at=now,
            )
            .returning(jobs.c.number)
        ).scalar_one()  # fmt: skip
        self._secrets.seal_for_job(connection, first, own_secrets)
        texts = [f"planned together with run {claim.run.number}, see there", *(found.error or reason).splitlines()]
        lines = [LogLine(place, "status", text, now) for place, text in enumerate(texts, 1)]
        data = [(line.n, encode_line(line)) for line in lines]
        store_lines(connection, first, 1, data, [text_size(line.text) for line in lines])
        self._describe(connection, claim.run, number, found, mark, now)
        return number

    def _describe(
        self, connection: Connection, asked: Run, number: int, found: PlannedRun, mark: str, now: float, host: str = ""
    ) -> None:
        """Write down the pipeline of a run and its jobs, which begin later. asked: the run that was submitted."""
        context = _context(mark, found.pipeline) if mark else ""
        if found.plan.is_partial:  # whose success says nothing of the whole
            context = asked.trigger.context
        trigger: Trigger = msgspec.structs.replace(asked.trigger, context=context)
        connection.execute(
            update(runs)
            .where(runs.c.number == number)
            .values(
                state="queued",  # so that what follows is news, and marks the commit
                pipeline=found.pipeline,
                plan=msgspec.json.encode(found.plan).decode(),
                commit=found.plan.commit,
                trigger=msgspec.json.encode(trigger).decode(),
                reason=found.plan.reason,
                late_at=now + found.plan.timeout_s,
                group_name=found.plan.group,
                group_state="waiting" if found.plan.group and found.jobs else "",
            )
        )
        rows = [
            {
                "run": number,
                "place": place,
                "name": str(work.node.name),  # not a text that knows its place
                "kind": "job",
                "spec": msgspec.json.encode(work.spec).decode(),
                "node": node_document(work.node),
                "group_name": str(work.node.group),
                **_beginning(work.taken, asked.trigger.retry_of, now, host),
                "max_attempts": asked.max_attempts,
                "worker_labels": msgspec.json.encode(check_labels((*asked.worker_labels, *work.labels))).decode(),
                "queued_at": now,
            }
            for place, work in enumerate(found.jobs, FIRST_PLACE + 1)
        ]
        if rows:
            connection.execute(insert(jobs), rows)
        for work in found.jobs:
            if work.gate is not None:
                taken_from = asked.trigger.retry_of if work.taken is not None else 0
                add_gate(connection, number, str(work.node.name), work.gate, taken_from)


def _is_cancelled(connection: Connection, claim: Claim, now: float) -> bool:
    """Whether somebody cancelled the run while it was planned; it has ended then."""
    this = jobs.c.number == claim.number
    if not connection.execute(select(jobs.c.cancel_requested).where(this)).scalar_one():
        return False
    connection.execute(update(jobs).where(this).values(state="cancelled", finished_at=now, result="{}"))
    follow_job(connection, claim.run.number, now)
    return True


def _beginning(taken: JobOutcome | None, repeated: int, now: float, host: str) -> dict[str, object]:
    """The columns of a job that say how it begins.

    taken: its result where it has that of the run that is repeated. host: has what that made, and is to send it.
    """
    if taken is None:
        nowhere = {"host": "", "left_at": "", "to_send": ""}
        return {"state": "waiting", "reason": "", "result": None, "finished_at": None, **nowhere}
    is_left = taken.outputs is not None or bool(taken.image)
    there = {
        "host": host,
        "left_at": host if is_left else "",
        "to_send": host if is_left or taken.published else "",
    }
    reason = taken.message or f"taken over from run {repeated}"  # other words than of what is reused in a run
    return {"state": taken.state, "reason": reason, "result": taken.to_json(), "finished_at": now, **there}


def _end_of_planning(found: PlannedRun) -> tuple[RunState, str, str]:
    """State, reason and result of the job that planned."""
    state: RunState = "failed" if found.error else "succeeded"
    reason = found.summary or found.error.partition("\n")[0] or found.plan.reason
    return state, reason, msgspec.json.encode(RunResult(error=found.error)).decode()


def _context(mark: str, pipeline: str) -> str:
    return f"{mark}/{pipeline}"


def end_late_runs(database: Database, now: float) -> int:
    """Let the runs of pipelines end whose time is over. Returns how many."""
    with database.read() as connection:
        late = select(runs.c.number).where(runs.c.state == "running", runs.c.late_at <= now, runs.c.stop == "")
        found = connection.execute(late).scalars().all()
    for number in found:
        with database.write() as connection:
            hold_run(connection, number)
            row = connection.execute(
                select(runs.c.state, runs.c.stop, runs.c.plan).where(runs.c.number == number)
            ).one()
            if row.state != "running" or row.stop:
                continue
            timeout_s = plans.decode(row.plan).timeout_s
            stop_pipeline(connection, number, f"stopped after {timeout_s:.0f} s, the run's time-out")
            follow_job(connection, number, now)
    return len(found)
