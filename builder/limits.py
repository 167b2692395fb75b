"""What a step may use, and the watch over what no control group counts: time, disk, output."""

from __future__ import annotations

import os
import time
from typing import Final, NamedTuple

from containers.limits import DEFAULT_SHM_BYTES
from containers.spec import Limits, ResourceLimit
from images.trees import tree_bytes

_DISK_CHECK_S: Final = 0.5
_MOST_PIDS: Final = 16384


class StepLimits(NamedTuple):
    """For each RUN by itself; 0 is no limit, but for pids, which stop a fork bomb before the host notices.

    timeout_s: how long it may run. disk_bytes: what it may leave in its layer at any moment. output_bytes: what it may
    print. output_rate: how much of that in a second; who prints faster waits, and is not failed.
    """

    container: Limits = Limits(pids=_MOST_PIDS, optional=("pids",))
    ulimits: tuple[ResourceLimit, ...] = ()
    shm_bytes: int = DEFAULT_SHM_BYTES
    timeout_s: float = 0.0
    disk_bytes: int = 0
    output_bytes: int = 0
    output_rate: int = 0


class Watch:
    """Looks at one running step. upper: the directory that takes what it writes."""

    def __init__(self, limits: StepLimits, upper: str) -> None:
        self._limits = limits
        self._upper = upper
        self._began = time.monotonic()
        self._printed = 0
        self._window_began, self._window_printed = self._began, 0
        self._free_at_begin = _free_bytes(upper) if limits.disk_bytes else 0
        self._next_disk_check = self._began + _DISK_CHECK_S

    def printed(self, size: int) -> None:
        """The step has printed ``size`` bytes; waits when that was too fast."""
        self._printed += size
        rate = self._limits.output_rate
        if not rate:
            return
        now = time.monotonic()
        if now - self._window_began >= 1.0:
            self._window_began, self._window_printed = now, 0
        self._window_printed += size
        if self._window_printed > rate:
            time.sleep(max(0.0, self._window_began + 1.0 - now))

    def exceeded(self) -> str | None:
        """Which limit is exceeded, in words; None while all hold."""
        limits = self._limits
        now = time.monotonic()
        if limits.timeout_s and now - self._began > limits.timeout_s:
            return f"it ran longer than {limits.timeout_s:g} s, the limit of time for a step"
        if limits.output_bytes and self._printed > limits.output_bytes:
            return f"it printed more than {limits.output_bytes} bytes, the limit of output for a step"
        if limits.disk_bytes and now >= self._next_disk_check:
            self._next_disk_check = now + _DISK_CHECK_S
            return self.disk_exceeded()
        return None

    def disk_exceeded(self) -> str | None:
        """As ``exceeded``, of the disk alone and at once.

        The free space of the file system is asked first, which costs nothing: files are counted only when it went down
        by a limit's worth, to whomever that was due.
        """
        limit = self._limits.disk_bytes
        if not limit or self._free_at_begin - _free_bytes(self._upper) <= limit or tree_bytes(self._upper) <= limit:
            return None
        return f"it wrote more than {limit} bytes, the limit of disk for a step"


def _free_bytes(path: str) -> int:
    status = os.statvfs(path)
    return status.f_bfree * status.f_frsize
