"""Why what is queued waits, for people: one look at the queue, the workers and the projects answers for many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.engine import Connection

from pipelines.model import Run, WorkerInfo
from pipelines.runs.faults import later
from pipelines.runs.shares import Order, going_by_project
from pipelines.schema import jobs, projects


class Waiting:
    """The reasons that keep runs and jobs from starting, as of now.

    workers: all that exist. order: of what waits. now: by the wall clock.
    """

    def __init__(self, connection: Connection, workers: Sequence[WorkerInfo], order: Order, now: float) -> None:
        self._now = now
        self._alive = [worker for worker in workers if worker.state not in ("lost", "draining")]
        self._workers = [worker for worker in self._alive if worker.state != "sick"]
        going = connection.execute(select(going_by_project()))
        self._going = Counter({row[0]: row[1] for row in going})
        limited = select(projects.c.name, projects.c.concurrency).where(projects.c.concurrency > 0)
        self._limits = {row.name: row.concurrency for row in connection.execute(limited)}
        self._ahead, self._jobs_ahead = order.runs, order.jobs
        held_back = select(jobs.c.run, jobs.c.number, jobs.c.not_before).where(
            jobs.c.state == "queued", jobs.c.not_before > now
        )
        found = connection.execute(held_back).all()
        self._not_before = {row.run: row.not_before for row in found}
        self._jobs_not_before = {row.number: row.not_before for row in found}

    def reason(self, run: Run) -> str:
        """Why this queued run waits."""
        left_s = later(self._not_before, run.number, self._now)
        ahead = self._ahead.get(run.number, 0)
        told = _runs(ahead)
        return self._reason(run.project, run.worker_labels, left_s, ahead, told) + _after(run.attempt)

    def job_reason(self, number: int, project: str, labels: Collection[str], attempt: int) -> str:
        """Why a queued job of a pipeline waits. number: among the jobs of all runs."""
        left_s = later(self._jobs_not_before, number, self._now)
        ahead = self._jobs_ahead.get(number, 0)
        told = "1 job" if ahead == 1 else f"{ahead} jobs"
        return self._reason(project, labels, left_s, ahead, told) + _after(attempt)

    def _reason(self, project: str, labels: Collection[str], left_s: float, ahead: int, told: str) -> str:
        """left_s: until it may be tried again. ahead, told: how many are before it, as a number and in words."""
        if not self._alive:
            return "no worker is running"
        if left_s:
            return f"is tried again in {left_s:.0f} s"
        if not self._workers:
            return "all workers are sick, the page of workers says why"
        wanted = set(labels)
        able = [worker for worker in self._workers if wanted.issubset(worker.labels)]
        if not able:
            of_them = "the label" if len(wanted) == 1 else "all of the labels"
            return f"no running worker has {of_them} {', '.join(sorted(wanted))}"
        limit = self._limits.get(project)
        if limit is not None and self._going[project] >= limit:
            return f"project {project} has {_runs(self._going[project])} going, and may have {limit}"
        if any(worker.concurrency > len(worker.runs) for worker in able):
            return "about to start"
        busy = "all workers" if len(able) == len(self._workers) else f"all workers with {', '.join(sorted(wanted))}"
        order = f", and {told} {'is' if ahead == 1 else 'are'} ahead of it" if ahead else ""
        return f"{busy} are busy{order}"


def _after(attempt: int) -> str:
    return f" (attempt {attempt} came to nothing)" if attempt else ""


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
