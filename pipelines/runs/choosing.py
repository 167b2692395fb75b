"""Choosing the job that a worker gets next, in the transaction that gives it.

On SQLite that transaction is alone. On PostgreSQL any number of them choose at once, and none waits for another: each
passes by the jobs that somebody else holds, or whose run. Where a project has a bound on what it has going, whoever
gives some of it away holds the project. So one transaction at a time counts, and the others pass the project by.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import func, or_, select
from sqlalchemy.engine import Connection

from pipelines.runs.faults import Colleague, colleagues, is_due, is_others
from pipelines.runs.nearness import Nearness
from pipelines.runs.shares import fairest_first, going_by_project
from pipelines.schema import jobs, projects, runs

_PAGE: Final = 20
_labels: Final = msgspec.json.Decoder(frozenset[str])


class Choice(NamedTuple):
    """The result of looking for a job to claim.

    number: of the job that is held now, together with its run; None for none.
    passed_by: somebody else held a job that might have been the one.
    is_left: a job was left to another host, which has what it needs.
    """

    number: int | None
    passed_by: bool = False
    is_left: bool = False


class Chooser:
    """Chooses for one worker, once.

    host: the worker's; empty: unknown.
    sparing: leave a job's last attempt to another worker that could have it.
    """

    def __init__(
        self, connection: Connection, worker: str, labels: Sequence[str], now: float, *, sparing: bool, host: str = ""
    ) -> None:
        self._connection = connection
        self._alone = connection.dialect.name == "sqlite"
        self._worker = worker
        self._wanted = [msgspec.json.encode(some).decode() for some in _subsets(labels)]
        self._now = now
        self._sparing = sparing
        self._others: list[Colleague] | None = None
        self._rejected: list[int] = []
        self._closed: set[str] = set()  # projects that are held or full
        self._passed_by = False
        self._is_left = False
        self._near = Nearness(connection, host, now)

    def choose(self) -> Choice:
        """The first job in turn that this worker may have and that nobody else holds."""
        while page := self._page():
            left = list(page)
            while left:
                row = self._near.nearest(left[0], [each for each in left if each.run == left[0].run])
                left.remove(row)
                if row.project not in self._closed and not self._is_others(row) and self._hold(row):
                    return Choice(row.number)
            if len(page) < _PAGE:
                break
            self._rejected += [row.number for row in page]
        return Choice(None, self._passed_by, self._is_left)

    def _page(self) -> Sequence[Any]:
        """The next few candidates, in turn."""
        going = going_by_project()
        free = or_(projects.c.concurrency == 0, func.coalesce(going.c.count, 0) < projects.c.concurrency)
        waiting = (
            select(
                jobs.c.number, runs.c.project, jobs.c.worker_labels, jobs.c.attempt, jobs.c.max_attempts,
                jobs.c.failed_on, jobs.c.not_before, projects.c.concurrency, jobs.c.run, jobs.c.name, jobs.c.kind,
                jobs.c.queued_at,
            )
            .join_from(jobs, runs, runs.c.number == jobs.c.run)
            .join(projects, projects.c.name == runs.c.project)
            .outerjoin(going, going.c.project == runs.c.project)
            .where(jobs.c.state == "queued", free, is_due(self._now), jobs.c.worker_labels.in_(self._wanted))
            .where(runs.c.project.not_in(self._closed), jobs.c.number.not_in(self._rejected))
        )  # fmt: skip
        return self._connection.execute(waiting.order_by(*fairest_first(going)).limit(_PAGE)).all()

    def _is_others(self, row: Any) -> bool:
        """Whether another worker should have the job."""
        if self._near.is_bound_elsewhere(row):
            return True
        if self._near.is_better_elsewhere(row):
            self._is_left = True
            return True
        last = self._sparing and row.attempt + 1 >= row.max_attempts
        if not last and row.failed_on == "[]":
            return False
        if self._others is None:
            self._others = colleagues(self._connection, self._worker, self._now)
        labels = _labels.decode(row.worker_labels)
        if last and any(labels <= other.labels for other in self._others):
            return True
        return is_others(self._worker, labels, row.failed_on, row.not_before, self._others, self._now)

    def _hold(self, row: Any) -> bool:
        """Whether we hold the job and its run from now to the end of the transaction."""
        if self._alone:
            return True
        if row.concurrency and not self._hold_project(row.project):
            self._closed.add(row.project)
            return False
        this = select(jobs.c.number).join(runs, runs.c.number == jobs.c.run)
        this = this.where(jobs.c.number == row.number, jobs.c.state == "queued")
        # In one go, for nobody waits here: the order of pipelines.runs.states is for those who do.
        held = self._connection.execute(this.with_for_update(skip_locked=True, of=[runs, jobs])).first() is not None
        self._passed_by = self._passed_by or not held
        return held

    def _hold_project(self, name: str) -> bool:
        """Whether we may count what the project has going, and it has room for one more."""
        this = select(projects.c.concurrency).where(projects.c.name == name)
        # Not FOR UPDATE: whoever submits a run only needs the project to stay.
        bound = self._connection.execute(this.with_for_update(skip_locked=True, key_share=True)).scalar()
        if bound is None:
            self._passed_by = True
            return False
        counted = select(func.count()).select_from(jobs).join(runs, runs.c.number == jobs.c.run)
        counted = counted.where(jobs.c.state == "running", runs.c.project == name)
        going = self._connection.execute(counted).scalar() or 0
        return bool(bound == 0 or going < bound)


def _subsets(labels: Sequence[str]) -> list[tuple[str, ...]]:
    """The sets of labels that a job may ask for and this worker can serve. Jobs name their labels sorted."""
    ordered = sorted(labels)
    return [some for count in range(len(ordered) + 1) for some in itertools.combinations(ordered, count)]
