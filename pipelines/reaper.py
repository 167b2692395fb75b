"""What a dead worker, an emptied Redis or a restart left behind is found and put right. Any number of reapers may run.

A run whose pulse stays the same for a whole lease goes back into the queue; a waiting run without a message gets one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from sqlalchemy import select

from pipelines.claims import LEASE_S, Claims
from pipelines.database import Database
from pipelines.queue import Queue
from pipelines.schema import runs


class Reaper:
    """Watches all runs. clock: a monotonic one."""

    def __init__(
        self,
        database: Database,
        claims: Claims,
        queue: Queue,
        *,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._claims = claims
        self._queue = queue
        self._lease_s = lease_s
        self._clock = clock
        self._seen: dict[tuple[int, int], tuple[int, float]] = {}  # (run, attempt) -> (pulse, when it came)

    def reap(self) -> int:
        """Look once; returns how many runs were taken from their workers. Call it every second or two.

        Raises DatabaseUnreachableError, QueueUnreachableError.
        """
        lost = self._lost()
        taken = 0
        for number, attempt, pulse, worker in lost:
            if self._claims.release(number, attempt, f"worker {worker} stopped answering", pulse=pulse) is not None:
                taken += 1
        self._queue.top_up(waiting(self._database))
        return taken

    def _lost(self) -> list[tuple[int, int, int, str]]:
        now = self._clock()
        with self._database.read() as connection:
            rows = connection.execute(
                select(runs.c.number, runs.c.attempt, runs.c.pulse, runs.c.worker).where(runs.c.state == "running")
            ).all()
        seen = {}
        lost = []
        for number, attempt, pulse, worker in rows:
            before, since = self._seen.get((number, attempt), (pulse, now))
            seen[number, attempt] = (pulse, since if before == pulse else now)
            if before == pulse and now - since >= self._lease_s:
                lost.append((number, attempt, pulse, worker))
        self._seen = seen
        return lost


def waiting(database: Database) -> dict[tuple[str, ...], list[int]]:
    """The numbers of the queued runs by the labels that they ask for, those to be claimed first at the front."""
    with database.read() as connection:
        rows = connection.execute(
            select(runs.c.number, runs.c.worker_labels)
            .where(runs.c.state == "queued")
            .order_by(runs.c.priority.desc(), runs.c.number)
        ).all()
    found: dict[tuple[str, ...], list[int]] = {}
    for number, labels in rows:
        found.setdefault(msgspec.json.decode(labels, type=tuple[str, ...]), []).append(number)
    return found
