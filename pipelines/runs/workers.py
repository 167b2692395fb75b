"""The list of workers: each writes a row of its own every few seconds, for as long as it really consumes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import delete, insert, select, update

from pipelines.database import Database
from pipelines.model import WorkerInfo, WorkerState
from pipelines.runs.faults import note_well, sicknesses
from pipelines.schema import jobs, workers

BEAT_S: Final = 3.0
_LOST_AFTER_S: Final = 15.0
_FORGOTTEN_AFTER_S: Final = 24 * 3600.0


class Workers:
    """All workers. Thread-safe. monotonic: decides which are lost, so that a clock that is set makes none look dead."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._monotonic = monotonic
        self._seen: dict[str, tuple[int, float]] = {}  # name -> (pulse, when it came)
        self._lock = threading.Lock()

    def beat(
        self, name: str, labels: Sequence[str], concurrency: int, *, draining: bool = False, host: str = ""
    ) -> None:
        """Note that the worker is well. host: the identity of its store; empty: unknown."""
        values: dict[str, Any] = {
            "labels": msgspec.json.encode(tuple(labels)).decode(),
            "concurrency": concurrency,
            "heartbeat_at": self._clock(),
            "draining": draining,
            "host": host,
        }
        with self._database.write() as connection:
            changed = connection.execute(
                update(workers).where(workers.c.name == name).values(**values, pulse=workers.c.pulse + 1)
            )
            if not changed.rowcount:
                connection.execute(insert(workers).values(**values, name=name, pulse=1))

    def leave(self, name: str) -> None:
        """Note that the worker ends."""
        with self._database.write() as connection:
            connection.execute(delete(workers).where(workers.c.name == name))
            note_well(connection, name)

    def list(self) -> list[WorkerInfo]:
        """All workers that beat within the last day, by name."""
        now = self._clock()
        with self._database.read() as connection:
            rows = connection.execute(select(workers).order_by(workers.c.name)).all()
            going = connection.execute(select(jobs.c.worker, jobs.c.run).where(jobs.c.state == "running")).all()
            sick = sicknesses(connection)
        found = []
        for row in rows:
            if now - row.heartbeat_at > _FORGOTTEN_AFTER_S:
                continue
            numbers = tuple(sorted(number for worker, number in going if worker == row.name))
            labels = msgspec.json.decode(row.labels, type=tuple[str, ...])
            trouble = sick[row.name].why if row.name in sick else ""
            state: WorkerState = "busy" if numbers else "idle"
            if self._is_lost(row.name, row.pulse, row.heartbeat_at, now):
                state = "lost"
            elif row.draining:
                state = "draining"
            elif trouble:
                state = "sick"
            found.append(WorkerInfo(row.name, labels, row.concurrency, state, row.heartbeat_at, numbers, trouble))
        return found

    def _is_lost(self, name: str, pulse: int, beat_at: float, now: float) -> bool:
        moment = self._monotonic()
        with self._lock:
            before, since = self._seen.get(name, (None, moment))
            if before != pulse:
                # The first look has only the other side's clock to go by; later ones see the pulse move.
                since = moment if before is not None else moment - max(0.0, now - beat_at)
                self._seen[name] = (pulse, since)
        return moment - since > _LOST_AFTER_S
