"""The jobs of a run as people and programs see them. The worker's side is ``pipelines.runs.claims``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Row

from ci.ends import JobOutcome
from ci.graph import JobNode
from ci.model import After
from pipelines.database import Database
from pipelines.errors import NotFoundError
from pipelines.model import JobKind, JobState
from pipelines.schema import jobs, runs

_HAS_OUTCOME: Final = ("succeeded", "reused", "failed")
_nodes: Final = msgspec.json.Decoder(JobNode)


class JobView(msgspec.Struct, frozen=True):
    """A job of a run. Times are seconds since the epoch.

    place: in the run. The first one is the build that the run is, or what planned the jobs of its pipeline.
    needs: the names of jobs that have to end before it.
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


class Jobs:
    """The jobs of all runs. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
    )
