"""The jobs of a run as people and programs see them. The worker's side is ``pipelines.runs.claims``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Row

from ci.ends import JobOutcome
from ci.graph import JobNode
from ci.model import After
from core.suggestions import suggestion
from pipelines.database import Database
from pipelines.endings import why_cancelled
from pipelines.errors import ConflictError, NotFoundError
from pipelines.model import JobKind, JobState
from pipelines.runs.graphs import stop_jobs
from pipelines.runs.jobnames import meant
from pipelines.runs.states import follow_job, hold_run
from pipelines.schema import jobs, runs

_HAS_OUTCOME: Final = ("succeeded", "reused", "failed")
_WENT_WRONG: Final = ("failed", "error", "cancelled")
_nodes: Final = msgspec.json.Decoder(JobNode)


class JobView(msgspec.Struct, frozen=True):
    """A job of a run. Times are seconds since the epoch.

    place: in the run. The first one is the build that the run is, or what planned the jobs of its pipeline.
    needs: the names of jobs that have to end before it.
    matrix: the name in the file of a job with a matrix; empty: it has none.
    reason: why it ended as it did.
    attempt: 0 until a worker took it.
    is_flaky: it succeeded after it had failed.
    lines: of its log, as far as it is stored.
    exit_code: of its command; null: none has ended.
    reused_from: the run whose result it has; empty: its own.
    outputs: the digest of the layer that it output; empty: none.
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
    matrix: str = ""


class Jobs:
    """The jobs of all runs. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def list(self, run: int) -> Sequence[JobView]:
        """In their order. Raises NotFoundError when there is no such run."""
        with self._database.read() as connection:
            rows = connection.execute(select(jobs).where(jobs.c.run == run).order_by(jobs.c.place)).all()
            if not rows and connection.execute(select(runs.c.number).where(runs.c.number == run)).first() is None:
                raise NotFoundError(f"there is no run {run}")
        return [_view(row) for row in rows]

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
            follow_job(connection, run, self._clock())
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


def _view(row: Row[Any]) -> JobView:
    node = _nodes.decode(row.node) if row.node else JobNode(row.name)
    is_of_pipeline = row.kind == "job" and row.state in _HAS_OUTCOME
    outcome = JobOutcome.from_json(row.result) if is_of_pipeline else JobOutcome("failed")
    return JobView(
        run=row.run,
        place=row.place,
        name=row.name,
        kind=row.kind,
        state=row.state,
        reason=row.reason,
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
        matrix=node.matrix,
    )
