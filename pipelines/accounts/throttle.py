"""Bounds on attempts, as leaky buckets in the database: they survive a restart and hold for all web processes.

A bucket fills by one with each attempt and drains at a steady rate. An attempt is counted before its outcome is known,
so that many at once cannot slip through. A good attempt is given back.

Whoever fills a bucket says how large it is: for passwords ``web.guard.signing_in``. The registry has its own buckets in
``registry.server.attempts``.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select, text, update
from sqlalchemy.engine import Connection

from pipelines.database import Database
from pipelines.errors import ThrottledError
from pipelines.schema import throttle

_LONGEST_S: Final = 86400.0
_FIRST_TIME: Final = text(
    'INSERT INTO throttle ("key", level, "at") VALUES (:key, 0, :at) ON CONFLICT ("key") DO NOTHING'
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bound: ``capacity`` attempts at once, and one more every ``drip_s`` seconds. key: whose attempts they are."""

    key: str
    capacity: int
    drip_s: float

    @property
    def hash(self) -> str:
        """The key as it is stored: of a fixed length whatever somebody typed, which may have been a password."""
        return hashlib.sha256(self.key.encode(errors="surrogatepass")).hexdigest()


class Throttle:
    """All buckets. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def take(self, buckets: Sequence[Bucket]) -> None:
        """Count one attempt in each bucket. Raises ThrottledError when one is full; none is counted then."""
        now = self._clock()
        with self._database.write() as connection:
            levels = [self._level(connection, bucket, now) for bucket in buckets]
            waits = [
                (level + 1 - bucket.capacity) * bucket.drip_s for bucket, level in zip(buckets, levels, strict=True)
            ]
            if max(waits) > 0:
                raise ThrottledError(math.ceil(max(waits)))
            for bucket, level in zip(buckets, levels, strict=True):
                _store(connection, bucket, level + 1, now)

    def give_back(self, buckets: Sequence[Bucket]) -> None:
        """Undo one ``take``."""
        now = self._clock()
        with self._database.write() as connection:
            for bucket in buckets:
                _store(connection, bucket, max(0.0, self._level(connection, bucket, now) - 1), now)

    def sweep(self) -> None:
        """Forget buckets that nobody touched for a day: they are empty."""
        with self._database.write() as connection:
            connection.execute(delete(throttle).where(throttle.c.at < self._clock() - _LONGEST_S))

    @staticmethod
    def _level(connection: Connection, bucket: Bucket, now: float) -> float:
        connection.execute(_FIRST_TIME, {"key": bucket.hash, "at": now})  # from here on, others wait for us
        found = connection.execute(select(throttle).where(throttle.c.key == bucket.hash).with_for_update()).one()
        return max(0.0, float(found.level) - max(0.0, now - float(found.at)) / bucket.drip_s)


def _store(connection: Connection, bucket: Bucket, level: float, now: float) -> None:
    connection.execute(update(throttle).where(throttle.c.key == bucket.hash).values(level=level, at=now))
