"""The jobs of a run as people and programs see them. The worker's side is ``pipelines.runs.claims``."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Connection, Row

from ci.ends import JobOutcome
from ci.graph import JobNode, Stop
from ci.model import After, Param
from ci.reasons import why_waiting
from core.suggestions import suggestion
from pipelines.database import Database
from pipelines.endings import why_cancelled
from pipelines.errors import ConflictError, NotFoundError
from pipelines.model import FIRST_PLACE, JobKind, JobState
from pipelines.runs.blocked import why_blocked
from pipelines.runs.graphs import graph_of, plans, stop_jobs
from pipelines.runs.groups import hand_over_at_once
from pipelines.runs.jobnames import meant
from pipelines.runs.queue import Queue
from pipelines.runs.rows import was_entered
from pipelines.runs.shares import SharedOrder
from pipelines.runs.states import follow_job, hold_run
from pipelines.runs.waiting import Waiting
from pipelines.runs.waking import wake
from pipelines.runs.workers import Workers
from pipelines.schema import jobs, runs

_HAS_OUTCOME: Final = ("succeeded", "reused", "failed")
_WENT_WRONG: Final = ("failed", "error", "cancelled")
_MARKS: Final = 24
_nodes: Final = msgspec.json.Decoder(JobNode)
_labels: Final = msgspec.json.Decoder(tuple[str, ...])


class JobView(msgspec.Struct, frozen=True):
    """A job of a run. Times are seconds since the epoch.

    place: in the run. The first one is the build that the run is, or what planned the jobs of its pipeline.
    needs: the names of jobs that have to end before it.
    matrix: the name in the file of a job with a matrix; empty: it has none.
    is_gate: people answer it, and no worker takes it.
    group: of which only so many jobs go on at once; empty: none.
    reason: why it waits, or why it ended as it did.
    attempt: 0 until a worker took it.
    is_flaky: it succeeded after it had failed.
    lines: of its log, as far as it is stored.
    exit_code: of its command; null: none has ended.
    reused_from: the run whose result it has; empty: its own.
    outputs: the digest of the layer that it output; empty: none.
    image: of a ``build``, the ID of the image; empty: none.
    was_entered: somebody had a shell in it while it ran: what came of it may not be what its commands alone make.
    """

    run: int
    place: int
    name: str
    kind: JobKind
    state: JobState
    reason: str
    attempt: int
    worker: str
    queued_at: float
    started_at: float | None
    finished_at: float | None
    lines: int
    needs: tuple[str, ...] = ()
    after: After = "success"
    may_fail: bool = False
    is_flaky: bool = False
    exit_code: int | None = None
    reused_from: str = ""
    outputs: str = ""
    image: str = ""
    matrix: str = ""
    is_gate: bool = False
    group: str = ""
    was_entered: bool = False


class PipelineView(msgspec.Struct, frozen=True):
    """The pipeline of a run.

    name: after its file. file: its path in the repository.
    left_out: by the names of jobs that are not in the run, why.
    reason: why the run has no jobs; empty where it has some.
    stop: whether the run is being ended.
    params: its parameters. values: what they are in this run.
    """

    name: str
    file: str
    left_out: dict[str, str]
    reason: str
    stop: Stop
    params: dict[str, Param] = {}
    values: dict[str, str] = {}


class Mark(NamedTuple):
    """A job of a run in a list of runs. is_warning: its failure is allowed, or it succeeded after it had failed."""

    name: str
    state: JobState
    is_warning: bool


class Marks(NamedTuple):
    """The first jobs of a pipeline's run, and how many there are in each state."""

    first: tuple[Mark, ...]
    counts: dict[JobState, int]


class Jobs:
    """The jobs of all runs. Thread-safe."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        workers: Workers,
        order: SharedOrder,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._queue = queue
        self._workers = workers
        self._order = order
        self._clock = clock

    def list(self, run: int) -> Sequence[JobView]:
        """In their order. Raises NotFoundError when there is no such run."""
        with self._database.read() as connection:
            rows = connection.execute(select(jobs).where(jobs.c.run == run).order_by(jobs.c.place)).all()
            if not rows and connection.execute(select(runs.c.number).where(runs.c.number == run)).first() is None:
                raise NotFoundError(f"there is no run {run}")
            reasons = self._reasons(connection, run, rows)
        return [_view(row, reasons.get(row.number, row.reason)) for row in rows]

    def _reasons(self, connection: Connection, run: int, rows: Sequence[Row[Any]]) -> dict[int, str]:
        """By a job's number why it waits."""
        states = {row.state for row in rows if row.kind == "job"}
        found: dict[int, str] = {}
        if "waiting" in states:
            graph = graph_of(connection, run)
            nodes = [each.node for each in graph]
            found = {each.number: why_waiting(each.node, nodes) for each in graph if each.node.state == "waiting"}
        if "blocked" in states:
            found |= why_blocked(connection, [run])
        if "queued" in states:
            waiting = Waiting(connection, self._workers.list(), self._order.now(connection), self._clock())
            project = connection.execute(select(runs.c.project).where(runs.c.number == run)).scalar_one()
            for row in rows:
                if row.state == "queued" and row.kind == "job":
                    labels = _labels.decode(row.worker_labels)
                    found[row.number] = waiting.job_reason(row.number, project, labels, row.attempt)
        return found

    def pipeline(self, run: int) -> PipelineView | None:
        """The pipeline of a run; None for a build alone, and as long as nobody has looked for one."""
        with self._database.read() as connection:
            row = connection.execute(
                select(runs.c.pipeline, runs.c.plan, runs.c.stop).where(runs.c.number == run)
            ).first()
        if row is None or not row.pipeline:
            return None
        plan = plans.decode(row.plan)
        values = {name: plan.facts.get(name, param.default) for name, param in plan.params.items()}
        return PipelineView(row.pipeline, plan.file, plan.left_out, plan.reason, row.stop, plan.params, values)

    def marks(self, numbers: Collection[int]) -> dict[int, Marks]:
        """By run, for those of these that have pipelines with jobs: what a list shows of each."""
        is_wanted = jobs.c.run.in_(numbers) & (jobs.c.place > FIRST_PLACE)
        first = select(jobs.c.run, jobs.c.name, jobs.c.state, jobs.c.failures, jobs.c.node)
        first = first.where(is_wanted, jobs.c.place <= FIRST_PLACE + _MARKS).order_by(jobs.c.run, jobs.c.place)
        counted = select(jobs.c.run, jobs.c.state, func.count().label("times"), func.min(jobs.c.place).label("first"))
        counted = counted.where(is_wanted).group_by(jobs.c.run, jobs.c.state)
        shown: dict[int, list[Mark]] = {}
        counts: dict[int, dict[JobState, int]] = {}
        with self._database.read() as connection:
            for row in connection.execute(first):
                is_warning = (row.state == "succeeded" and row.failures > 0) or (
                    row.state == "failed" and _nodes.decode(row.node).may_fail
                )
                shown.setdefault(row.run, []).append(Mark(row.name, row.state, is_warning))
            if shown:
                for row in sorted(connection.execute(counted), key=lambda row: row.first):
                    counts.setdefault(row.run, {})[row.state] = row.times
        return {run: Marks(tuple(found), counts.get(run, {})) for run, found in shown.items()}

    def get(self, run: int, job: str) -> JobView:
        """The job with this place or name. Raises NotFoundError."""
        for view in self.list(run):
            if job in (str(view.place), view.name):
                return view
        raise NotFoundError(f"run {run} has no job {job[:100]!r}")

    def chosen(self, run: int, job: str) -> Sequence[JobView]:
        """The job with this place or name, or all of this matrix. Raises NotFoundError."""
        found = self.list(run)
        places = meant(job, [(view.place, view.name, view.matrix) for view in found])
        if not places:
            hint = suggestion(job, [view.name for view in found])
            raise NotFoundError(f"run {run} has no job {job[:100]!r}", hint=hint)
        return [view for view in found if view.place in places]

    def cancel(self, run: int, job: str, *, by: str = "") -> Sequence[JobView]:
        """End a job of a pipeline, or all of a matrix, and what needs it. The second time what cleans up is ended, too,
        and what runs is killed.

        by: who wants it. Returns the jobs that were meant. Raises NotFoundError, and ConflictError when they and all
        that needs them have ended.
        """
        wanted = self.chosen(run, job)
        with self._database.write() as connection:
            hold_run(connection, run)
            if not stop_jobs(connection, run, [view.name for view in wanted], why_cancelled(by, 0)):
                raise ConflictError(f"job {job[:100]} of run {run} has ended: {wanted[0].state}")
            project = follow_job(connection, run, self._clock()).project
        hand_over_at_once(self._database, self._clock(), project)
        wake(self._database, self._queue)  # the next ones of a matrix, and what cleans up
        return self.chosen(run, job)

    def has_failed(self, run: int) -> bool:
        """Whether a job of the run did not succeed that somebody may want to be done again. Raises NotFoundError."""
        return any(view.state in _WENT_WRONG for view in self.list(run))

    def number(self, run: int, place: int) -> int:
        """A job's number among those of all runs, by which its log is kept. Raises NotFoundError."""
        with self._database.read() as connection:
            wanted = select(jobs.c.number).where(jobs.c.run == run, jobs.c.place == place)
            number = connection.execute(wanted).scalar()
        if number is None:
            raise NotFoundError(f"run {run} has no job {place}")
        return int(number)


def _view(row: Row[Any], reason: str) -> JobView:
    node = _nodes.decode(row.node) if row.node else JobNode(row.name)
    is_of_pipeline = row.kind == "job" and row.state in _HAS_OUTCOME
    outcome = JobOutcome.from_json(row.result) if is_of_pipeline else JobOutcome("failed")
    return JobView(
        run=row.run,
        place=row.place,
        name=row.name,
        kind=row.kind,
        state=row.state,
        reason=reason,
        attempt=row.attempt,
        worker=row.worker,
        queued_at=row.queued_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        lines=row.lines,
        needs=node.needs,
        after=node.after,
        may_fail=node.may_fail,
        is_flaky=row.state == "succeeded" and row.failures > 0,
        exit_code=outcome.exit_code,
        reused_from=outcome.reused_from,
        outputs=outcome.outputs or "",
        image=outcome.image,
        matrix=node.matrix,
        is_gate=node.is_gate,
        group=node.group,
        was_entered=was_entered(row),
    )
