"""Fair shares: in which order the jobs that wait are given away.

The highest priority comes first. Within a priority, the project comes first that has the fewest jobs going for its
weight. Among equals, and within a project, the oldest run comes first, and of a run the job with the first place. So a
project that queues twenty runs does not keep another project's four waiting.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Subquery, func, select
from sqlalchemy.engine import Connection

from pipelines.schema import jobs, projects, runs


class Turn(NamedTuple):
    """A job that waits: only the members that its turn depends on. number: the job's."""

    number: int
    run: int
    project: str
    priority: int


class Order:
    """The jobs that wait at one moment, in their order.

    turns: all of them.
    runs, jobs: by a run's number, and by a job's, the index of its last turn: how many are ahead of it.
    """

    def __init__(self, turns: list[Turn]) -> None:
        self.turns = turns
        self.runs = {turn.run: index for index, turn in enumerate(turns)}
        self.jobs = {turn.number: index for index, turn in enumerate(turns)}


class SharedOrder:
    """The order of what waits, for all who look at it: pages ask for it every few seconds, each for every reader.

    A short queue is read anew each time. A long one is kept for twenty times as long as reading it took, so that
    looking at it never takes more than a twentieth of a processor, however many pages are open. While one thread reads
    it, others get what was known before. Thread-safe.
    """

    SHORT: Final = 500
    """The jobs up to which a queue is read each time: this takes some milliseconds."""

    _PART: Final = 20.0
    _LONGEST_S: Final = 15.0
    _PATIENCE_S: Final = 5.0

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reading = threading.Lock()
        self._known: Order | None = None
        self._until = 0.0

    def now(self, connection: Connection) -> Order:
        """The order as of now; of a long queue, as of some seconds ago at most."""
        known = self._known
        if known is not None and (self._clock() < self._until or not self._reading.acquire(blocking=False)):
            return known
        if known is None and not self._reading.acquire(timeout=self._PATIENCE_S):
            return Order(turns(connection))
        try:
            began = self._clock()
            if self._known is not None and began < self._until:  # somebody else has read it, as we waited for that
                return self._known
            found = Order(turns(connection))
            now = self._clock()
            is_short = len(found.turns) <= self.SHORT
            self._known = None if is_short else found
            self._until = now + min(self._LONGEST_S, self._PART * (now - began))
            return found
        finally:
            self._reading.release()


def going_by_project() -> Subquery:
    """``project`` and ``count``: how many of its jobs are going; without projects that have none."""
    counted = select(runs.c.project, func.count().label("count")).join(jobs, jobs.c.run == runs.c.number)
    return counted.where(jobs.c.state == "running").group_by(runs.c.project).subquery()


def fairest_first(going: Subquery) -> tuple[ColumnElement[Any], ...]:
    """The order in which jobs are given away.

    For a query over ``jobs``, ``runs``, ``projects`` and, outer joined, ``going``.
    """
    share = func.coalesce(going.c.count, 0) * 1.0 / projects.c.weight
    return runs.c.priority.desc(), share, runs.c.number, jobs.c.place


def turns(connection: Connection) -> list[Turn]:
    """All jobs that wait, in the order in which they will be given away if no job comes and none ends."""
    going: dict[str, int] = {}
    weights: dict[str, int] = {}
    counted = going_by_project()
    shares = select(projects.c.name, projects.c.weight, counted.c.count)
    for row in connection.execute(shares.outerjoin(counted, counted.c.project == projects.c.name)):
        weights[row[0]], going[row[0]] = row[1], row[2] or 0
    queued = select(jobs.c.number, jobs.c.run, runs.c.project, runs.c.priority).join(runs, runs.c.number == jobs.c.run)
    in_order = connection.execute(
        queued.where(jobs.c.state == "queued").order_by(runs.c.priority.desc(), runs.c.number, jobs.c.place)
    )
    return list(in_turn((Turn(*row) for row in in_order), going, weights))


def in_turn(waiting: Iterable[Turn], going: Mapping[str, int], weights: Mapping[str, int]) -> Iterator[Turn]:
    """The same jobs in their order. waiting: the highest priority first, then the oldest. going: jobs by project."""
    busy = dict(going)
    for _, equals in groupby(waiting, key=lambda turn: turn.priority):
        queues: defaultdict[str, deque[Turn]] = defaultdict(deque)
        for turn in equals:
            queues[turn.project].append(turn)
        heap = [(busy.get(name, 0) / weights[name], queue[0].run, name) for name, queue in queues.items()]
        heapq.heapify(heap)
        while heap:
            _, _, name = heap[0]
            yield queues[name].popleft()
            busy[name] = busy.get(name, 0) + 1
            if queues[name]:
                heapq.heapreplace(heap, (busy[name] / weights[name], queues[name][0].run, name))
            else:
                heapq.heappop(heap)
