"""How long jobs of a project waited and took, as histograms: counters that each job's end adds to.

A row is one job of a project's pipelines, by its name in the file; all of a matrix is one. It is counted when it ends
by itself, so nothing is ever scanned, and what retention removes stays counted. A project has at most MOST_JOBS rows:
jobs beyond these are counted together, without a name. A fork's jobs are not counted: their author chose the names and
the times, and rows stay.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import and_, func, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ci.graph import JobNode
from core.trust import parse
from pipelines.database import Database
from pipelines.schema import job_times, jobs, runs

MOST_JOBS: Final = 200
BOUNDS_S: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0)
"""The upper bounds of the buckets, in seconds; what is above all of them is in the count alone."""

_OTHERS: Final = ""
_nodes: Final = msgspec.json.Decoder(JobNode)


class Histogram(msgspec.Struct, frozen=True):
    """Durations. count: how many; sum_s: all together.

    buckets: for each of BOUNDS_S how many were at most so long.
    """

    count: int
    sum_s: float
    buckets: tuple[int, ...]


class JobTimes(msgspec.Struct, frozen=True):
    """The times of one job. job: its name in the file; empty: of those that have no row of their own.

    waited: from being queued to being taken by a worker, of the attempt that ended.
    took: from then to its end.
    """

    pipeline: str
    job: str
    waited: Histogram
    took: Histogram


class _Which(NamedTuple):
    project: str
    pipeline: str
    job: str


def count_job(connection: Connection, number: int) -> None:
    """Count a job of a pipeline that has ended by itself: the last statement of the transaction that ends it.

    Whoever ends another job of that name at the same moment waits for this transaction.
    """
    columns = (jobs.c.name, jobs.c.node, jobs.c.queued_at, jobs.c.started_at, jobs.c.finished_at)
    about = select(*columns, runs.c.project, runs.c.pipeline, runs.c.domain).join(runs, runs.c.number == jobs.c.run)
    row = connection.execute(about.where(jobs.c.number == number)).one()
    if row.started_at is None or row.finished_at is None or (row.domain and parse(row.project, row.domain).is_fork):
        return
    name = (_nodes.decode(row.node).matrix if row.node else "") or row.name
    waited, took = max(0.0, row.started_at - row.queued_at), max(0.0, row.finished_at - row.started_at)
    which = _Which(row.project, row.pipeline, name)
    if _add(connection, which, waited, took):
        return
    kept = select(func.count()).select_from(job_times).where(job_times.c.project == which.project)
    if connection.execute(kept).scalar_one() >= MOST_JOBS:
        which = _Which(which.project, _OTHERS, _OTHERS)
        if _add(connection, which, waited, took):
            return
    try:
        with connection.begin_nested():
            connection.execute(insert(job_times).values(which._asdict()))
    except IntegrityError:
        pass  # somebody else was quicker
    _add(connection, which, waited, took)


def times_of(database: Database, project: str) -> list[JobTimes]:
    """The times of a project's jobs, by pipeline and name."""
    wanted = select(job_times).where(job_times.c.project == project).order_by(job_times.c.pipeline, job_times.c.job)
    with database.read() as connection:
        return [
            JobTimes(row.pipeline, row.job, _histogram(row, "waited"), _histogram(row, "took"))
            for row in connection.execute(wanted)
        ]


def _add(connection: Connection, which: _Which, waited: float, took: float) -> bool:
    """Count one more in a row; False: there is none."""
    values: dict[str, Any] = {"count": job_times.c.count + 1}
    for kind, seconds in (("waited", waited), ("took", took)):
        values[f"{kind}_s"] = job_times.c[f"{kind}_s"] + seconds
        for place, bound in enumerate(BOUNDS_S):
            if seconds <= bound:
                values[f"{kind}_{place}"] = job_times.c[f"{kind}_{place}"] + 1
    its = and_(*(job_times.c[name] == value for name, value in which._asdict().items()))
    return connection.execute(update(job_times).where(its).values(values)).rowcount == 1


def _histogram(row: Any, kind: str) -> Histogram:
    buckets = tuple(int(getattr(row, f"{kind}_{place}")) for place in range(len(BOUNDS_S)))
    return Histogram(int(row.count), float(getattr(row, f"{kind}_s")), buckets)
