"""How full a host's disk was, hour by hour, and when it will be full if it goes on so.

Each web process writes a sample of its own host's. ``forecast`` draws a line through those of the last days: the median
of the slopes between all pairs (Theil and Sen), which one day of cleaning up, or one large import, does not bend.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from pipelines.database import Database
from pipelines.schema import disk_samples

KEEP_S: Final = 90 * 86400.0
LOOKS_BACK_S: Final = 14 * 86400.0
ENOUGH_S: Final = 6 * 3600.0
"""Samples of a shorter time say nothing about growth."""

_HOUR_S: Final = 3600.0
_DAY_S: Final = 86400.0
_MOST_POINTS: Final = 60
_FAR_S: Final = 10 * 365 * 86400.0


class DiskSample(msgspec.Struct, frozen=True):
    """A disk at a moment, in bytes.

    at: seconds since the epoch.
    used, free: of the file system; free is what the service may still take.
    registry, outputs: what of that the registry and the outputs for people take.
    """

    at: float
    used_bytes: int
    free_bytes: int
    registry_bytes: int
    outputs_bytes: int


class Forecast(msgspec.Struct, frozen=True):
    """What becomes of a disk at the growth of the last days.

    per_day_bytes: how much it grows; below 0: it gets emptier.
    full_at: when nothing will be free, in seconds since the epoch; None: not within ten years.
    measured_s: how long it was looked at for that.
    """

    per_day_bytes: int
    full_at: float | None
    measured_s: float


def note_sample(database: Database, host: str, sample: DiskSample) -> None:
    """Keep a sample, one for each hour; those of three months ago go. Raises DatabaseUnreachableError."""
    hour = int(sample.at // _HOUR_S)
    with database.write() as connection:
        this = (disk_samples.c.host == host) & (disk_samples.c.hour == hour)
        connection.execute(delete(disk_samples).where(this))
        row = {"host": host, "hour": hour, **msgspec.structs.asdict(sample)}
        with contextlib.suppress(IntegrityError), connection.begin_nested():  # another process of the host was quicker
            connection.execute(insert(disk_samples).values(row))
        connection.execute(delete(disk_samples).where(disk_samples.c.at < sample.at - KEEP_S))


def samples(database: Database, host: str, since: float) -> list[DiskSample]:
    """The samples of a host, the oldest first."""
    wanted = select(disk_samples).where(disk_samples.c.host == host, disk_samples.c.at >= since)
    with database.read() as connection:
        rows = connection.execute(wanted.order_by(disk_samples.c.hour)).all()
    return [DiskSample(row.at, row.used_bytes, row.free_bytes, row.registry_bytes, row.outputs_bytes) for row in rows]


def forecast(found: Sequence[DiskSample]) -> Forecast | None:
    """What the samples, oldest first, say about the time after them; None: they are of too short a time."""
    if len(found) < 2 or found[-1].at - found[0].at < ENOUGH_S:
        return None
    step = max(1, len(found) // _MOST_POINTS)
    points = [*found[:-1:step], found[-1]]
    slopes = [
        (later.used_bytes - earlier.used_bytes) / (later.at - earlier.at)
        for index, earlier in enumerate(points)
        for later in points[index + 1 :]
        if later.at > earlier.at
    ]
    per_s = statistics.median(slopes)
    last = found[-1]
    left_s = last.free_bytes / per_s if per_s > 0 else _FAR_S
    full_at = last.at + left_s if left_s < _FAR_S else None
    return Forecast(round(per_s * _DAY_S), full_at, last.at - found[0].at)
