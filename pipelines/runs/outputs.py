"""Outputs of jobs for people: which there are, and where; and those of a branch's last success."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from ci.ends import JobOutcome, Published
from core.digests import DiffID
from core.trust import of_branch, protected
from pipelines.database import Database
from pipelines.errors import NotFoundError
from pipelines.runs.artifacts import output_tag
from pipelines.runs.previews import HAVE_OUTCOME
from pipelines.runs.rows import was_entered
from pipelines.schema import artifacts, jobs, runs


class OutputView(msgspec.Struct, frozen=True):
    """An output for people.

    files: how many there are, links too. size: bytes.
    until: when it is removed, in seconds since the epoch.
    artifact: its name in the service's registry, without the host; empty: it is not there.
    preview: whether its author had it marked at the commit, to be opened.
    was_entered: somebody had a shell in the job while it ran: it may have more than the job's commands made.
    """

    name: str
    files: int
    size: int
    until: float
    artifact: str = ""
    preview: bool = False
    was_entered: bool = False


class FoundOutput(NamedTuple):
    """An output, and what its files are read from.

    layer: in the store of the host on which the job ran, and in the registry once it is there.
    at: when the job ended, in seconds since the epoch.
    """

    run: int
    place: int
    job: str
    view: OutputView
    layer: DiffID
    at: float


class Outputs:
    """The outputs for people of all runs. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_run(self, run: int) -> dict[int, tuple[OutputView, ...]]:
        """By the places of jobs. Those without any are left out."""
        with self._database.read() as connection:
            found = _found(connection, run)
        return {place: tuple(each.view for each in each_job) for place, each_job in found.items()}

    def get(self, run: int, place: int, name: str) -> FoundOutput:
        """One output of a job. Raises NotFoundError."""
        with self._database.read() as connection:
            found = _found(connection, run).get(place, ())
        for each in found:
            if each.view.name == name:
                return each
        raise NotFoundError(f"job {place} of run {run} has no output {name[:100]!r}")

    def latest(self, project: str, branch: str, job: str) -> Sequence[FoundOutput]:
        """The outputs of a job in the last run of a branch that succeeded. Raises NotFoundError.

        job: its name. Of several pipelines with such a job, the newest success that has outputs counts.
        Of a fork's branch of the same name nothing counts, nor of what somebody ran in another way.
        """
        wanted = (
            select(func.max(jobs.c.run))
            .join(runs, runs.c.number == jobs.c.run)
            .where(
                runs.c.project == project,
                runs.c.branch == branch,
                runs.c.domain.in_((protected(project).label, of_branch(project, branch).label)),
                runs.c.state.in_(("succeeded", "warnings")),
                jobs.c.name == job,
                jobs.c.kind == "job",
                jobs.c.state.in_(("succeeded", "reused")),
            )
            .group_by(runs.c.pipeline)
            .order_by(func.max(jobs.c.run).desc())
        )
        with self._database.read() as connection:
            for run in connection.execute(wanted).scalars().all():
                for found in _found(connection, run).values():
                    if found[0].job == job:
                        return found
        raise NotFoundError(f"no run of {branch[:100]!r} that succeeded has an output of a job {job[:100]!r}")


def _found(connection: Connection, run: int) -> dict[int, tuple[FoundOutput, ...]]:
    columns = (jobs.c.place, jobs.c.name, jobs.c.result, jobs.c.finished_at, jobs.c.attempt, jobs.c.entered)
    wanted = select(*columns).where(jobs.c.run == run, jobs.c.kind == "job", jobs.c.state.in_(HAVE_OUTCOME))
    sent = select(jobs.c.place, artifacts.c.name, artifacts.c.repository).join(jobs, jobs.c.number == artifacts.c.job)
    rows = connection.execute(sent.where(jobs.c.run == run, artifacts.c.kind == "output"))
    there = {(row.place, row.name): row.repository for row in rows}
    found = {}
    for row in connection.execute(wanted.order_by(jobs.c.place)):
        outcome = JobOutcome.from_json(row.result)
        each = tuple(_output(run, row, one, there.get((row.place, one.name), "")) for one in outcome.published)
        if each:
            found[row.place] = each
    return found


def _output(run: int, row: Any, found: Published, repository: str) -> FoundOutput:
    """An output as it was found. row: of its job."""
    artifact = f"{repository}:{output_tag(run, row.place, found.name)}" if repository else ""
    until = row.finished_at + found.keep_s
    view = OutputView(found.name, found.count, found.size, until, artifact, found.preview, was_entered(row))
    return FoundOutput(run, row.place, row.name, view, found.layer, row.finished_at)
