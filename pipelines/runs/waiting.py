"""Why a queued run waits, for people: one look at the queue, the workers and the projects answers for many runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.engine import Connection

from pipelines.model import Run, WorkerInfo
from pipelines.runs.faults import later
from pipelines.runs.shares import going_by_project, turns
from pipelines.schema import jobs, projects


class Waiting:
    """The reasons that keep runs from starting, as of now. workers: all that exist. now: by the wall clock."""

    def __init__(self, connection: Connection, workers: Sequence[WorkerInfo], now: float) -> None:
        self._now = now
        self._alive = [worker for worker in workers if worker.state not in ("lost", "draining")]
        self._workers = [worker for worker in self._alive if worker.state != "sick"]
        going = connection.execute(select(going_by_project()))
        self._going = Counter({row[0]: row[1] for row in going})
        limited = select(projects.c.name, projects.c.concurrency).where(projects.c.concurrency > 0)
        self._limits = {row.name: row.concurrency for row in connection.execute(limited)}
        self._ahead = {turn.run: index for index, turn in enumerate(turns(connection))}
        held_back = select(jobs.c.run, jobs.c.not_before).where(jobs.c.state == "queued", jobs.c.not_before > now)
        self._not_before = {row.run: row.not_before for row in connection.execute(held_back)}

    def reason(self, run: Run) -> str:
        """Why this queued run waits."""
        after = f" (attempt {run.attempt} came to nothing)" if run.attempt else ""
        return self._reason(run) + after

    def _reason(self, run: Run) -> str:
        if not self._alive:
            return "no worker is running"
        if left := later(self._not_before, run.number, self._now):
            return f"is tried again in {left:.0f} s"
        if not self._workers:
            return "all workers are sick, the page of workers says why"
        wanted = set(run.worker_labels)
        able = [worker for worker in self._workers if wanted.issubset(worker.labels)]
        if not able:
            labels = "the label" if len(wanted) == 1 else "all of the labels"
            return f"no running worker has {labels} {', '.join(sorted(wanted))}"
        limit = self._limits.get(run.project)
        if limit is not None and self._going[run.project] >= limit:
            return f"project {run.project} has {_runs(self._going[run.project])} going, and may have {limit}"
        if any(worker.concurrency > len(worker.runs) for worker in able):
            return "about to start"
        busy = "all workers" if len(able) == len(self._workers) else f"all workers with {', '.join(sorted(wanted))}"
        ahead = self._ahead.get(run.number, 0)
        order = f", and {_runs(ahead)} {'is' if ahead == 1 else 'are'} ahead of it" if ahead else ""
        return f"{busy} are busy{order}"


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
