"""The reaper: finds and puts right what a dead worker, an emptied Redis or a restart left behind. Any number may run.

A job whose pulse stands still for a whole lease goes back into the queue; a waiting job without a message gets one.

Time counts only while the worker could have shown that it lives: the reaper looked, and the database took writes. When
a database was away, or its disk was full, the leases begin anew once it is back. Otherwise the winner would be whoever
writes first again, the reaper or the worker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from sqlalchemy import select, update

from pipelines.database import Database
from pipelines.errors import DatabaseBusyError, DatabaseUnreachableError
from pipelines.runs.claims import LEASE_S, RENEW_S, Claims
from pipelines.runs.gates import end_late_gates
from pipelines.runs.groups import hand_over
from pipelines.runs.pipelines import end_late_runs
from pipelines.runs.queue import Queue
from pipelines.runs.waking import waiting
from pipelines.schema import jobs, runs

_DOUBTFUL_S: Final = 2 * RENEW_S  # no worker that is well takes so long
_log = logging.getLogger(__name__)


class _Watched(NamedTuple):
    """A pulse, and for how many seconds it has been seen to stand still."""

    pulse: int
    still_s: float


class Reaper:
    """Watches all jobs. clock: a monotonic one."""

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
        self._watched: dict[tuple[int, int], _Watched] = {}  # by job and attempt
        self._looked_at = clock()

    def reap(self) -> int:
        """Look once; returns how many jobs were taken from their workers. Call it every second or two.

        Raises DatabaseUnreachableError, QueueUnreachableError.
        """
        taken = 0
        try:
            for number, attempt, pulse, worker in self._lost():
                taken += self._take(number, attempt, pulse, worker)
        except DatabaseUnreachableError:
            self._watched.clear()  # the workers could not write, either
            raise
        end_late_runs(self._database, time.time())
        end_late_gates(self._database, time.time())
        hand_over(self._database, time.time())
        self._queue.top_up(waiting(self._database))
        return taken

    def _take(self, number: int, attempt: int, pulse: int, worker: str) -> int:
        """How many jobs were taken; none while somebody holds the job or its run: nobody else may give it away then."""
        try:
            released = self._claims.release(number, attempt, f"worker {worker} stopped answering", pulse=pulse)
        except DatabaseBusyError as error:
            _log.warning("job %d: %s", number, error)
            return 0
        return 0 if released is None else 1

    def _lost(self) -> list[tuple[int, int, int, str]]:
        """Jobs that showed no sign of life for a whole lease: number, attempt, pulse, worker."""
        now = self._clock()
        passed = min(now - self._looked_at, RENEW_S)  # during a longer pause of ours we saw nothing
        self._looked_at = now
        with self._database.read() as connection:
            rows = connection.execute(
                select(jobs.c.number, jobs.c.attempt, jobs.c.pulse, jobs.c.worker).where(jobs.c.state == "running")
            ).all()
        watched = {}
        for number, attempt, pulse, _ in rows:
            before = self._watched.get((number, attempt))
            still_s = before.still_s + passed if before is not None and before.pulse == pulse else 0.0
            watched[number, attempt] = _Watched(pulse, still_s)
        self._watched = watched
        doubtful = [row for row in rows if watched[row.number, row.attempt].still_s >= _DOUBTFUL_S]
        free = self._try_to_write([row.number for row in doubtful]) if doubtful else frozenset()
        return [
            (number, attempt, pulse, worker)
            for number, attempt, pulse, worker in doubtful
            if watched[number, attempt].still_s >= self._lease_s and number in free
        ]

    def _try_to_write(self, numbers: list[int]) -> frozenset[int]:
        """Write to the jobs that the workers have to write to, changing nothing; returns those that nobody holds.

        A job or its run may be held by somebody, such as a host that died in a transaction. That does not keep us from
        the other jobs.
        """
        with self._database.write() as connection:
            free = select(jobs.c.number).join(runs, runs.c.number == jobs.c.run).where(jobs.c.number.in_(numbers))
            free = free.with_for_update(skip_locked=True, of=[runs, jobs])
            found = frozenset(connection.execute(free).scalars())
            connection.execute(update(jobs).where(jobs.c.number.in_(found)).values(lease_until=jobs.c.lease_until))
        return found
