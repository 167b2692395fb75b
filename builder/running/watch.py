"""A watch over the limits of a step that no control group counts: time, disk, output."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from builder.request.limits import StepLimits
from containers.spec import Bind, Mount, Tree
from images.trees import tree_usage

_DISK_CHECK_S: Final = 0.5
_COUNT_S: Final = 5.0
_COUNT_SHARE: Final = 20  # counting takes at most a twentieth of the time
_CLOCK_SLACK_S: Final = 1.0  # the clock of files' times is behind by a tick or two
_FEWEST_INODES: Final = 200_000
_RESERVE_BYTES: Final = 1 << 30


class _Room(NamedTuple):
    """What a file system tells of changes since the step began, by the step or by others.

    is_written: the free bytes went down by at least the limit.
    is_made: the free inodes went down by more than ``most_inodes``.
    most_inodes: the limit's share of the inodes, where their number is fixed: a hundredth of the bytes allows a
    hundredth of the inodes.
    free_bytes: bytes that are still free.
    is_nearly_full: so few bytes are free that the host is in danger.
    """

    is_written: bool
    is_made: bool
    most_inodes: int
    free_bytes: int
    is_nearly_full: bool


class Watch:
    """Watches one running step.

    upper: the directory that receives what the step writes.
    mounts: what else it may write to. Some of them last as long as the step; cache mounts last longer and are shared.
    beside: of containers that belong to it: what they write and print counts as its own.
    """

    def __init__(
        self, limits: StepLimits, upper: str, mounts: Sequence[Mount] = (), *, beside: Sequence[Watch] = ()
    ) -> None:
        self._limits = limits
        self._upper = upper
        self._beside = beside
        self._who = "it and what runs beside it" if beside else "it"
        self._uppers = [upper, *(mount.upper for mount in mounts if isinstance(mount, Tree) and mount.upper)]
        self._uppers += [path for each in beside for path in each._uppers]
        self._shared = [mount.source for mount in mounts if isinstance(mount, Bind) and not mount.readonly]
        self._began_at = time.time() - _CLOCK_SLACK_S
        self._began = time.monotonic()
        self._printed = 0
        self._window_began, self._window_printed = self._began, 0
        self._at_begin = os.statvfs(upper) if limits.disk_bytes else None
        self._next_disk_check = self._began + _DISK_CHECK_S
        self._next_count = self._began + _COUNT_S

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
        if limits.output_bytes and self._printed_by_all() > limits.output_bytes:
            return f"{self._who} printed more than {limits.output_bytes} bytes, the limit of output for a step"
        if limits.disk_bytes and now >= self._next_disk_check:
            self._next_disk_check = now + _DISK_CHECK_S
            # When others remove files at the same time, free space does not show what the step writes. So files are
            # also counted every few seconds, and more rarely the longer that takes.
            return self.disk_exceeded() if now >= self._next_count else self._disk_exceeded_by_its_look()
        return None

    def _printed_by_all(self) -> int:
        return self._printed + sum(each._printed for each in self._beside)

    def disk_exceeded(self) -> str | None:
        """As ``exceeded``, but for the disk alone, and counted at once: for a step that has ended."""
        return None if self._at_begin is None else self._counted(self._room(self._at_begin))

    def _disk_exceeded_by_its_look(self) -> str | None:
        """As ``disk_exceeded``, but counts only if free space went down by the limit: asking costs nothing."""
        if self._at_begin is None:
            return None
        room = self._room(self._at_begin)
        return self._counted(room) if room.is_written or room.is_made else None

    def _room(self, before: os.statvfs_result) -> _Room:
        limit, now = self._limits.disk_bytes, os.statvfs(self._upper)
        most_inodes = max(_FEWEST_INODES, before.f_files * limit // max(1, before.f_blocks * before.f_frsize))
        free = now.f_bfree * now.f_frsize
        return _Room(
            is_written=before.f_bfree * before.f_frsize - free > limit,
            is_made=before.f_ffree - now.f_ffree > most_inodes,
            most_inodes=most_inodes,
            free_bytes=free,
            is_nearly_full=free < min(_RESERVE_BYTES, now.f_blocks * now.f_frsize // 20),
        )

    def _counted(self, room: _Room) -> str | None:
        """Count the files, and compare them with the limit.

        A step can hide bytes from counting in files that it removed and holds open. Such a step ends when the disk is
        nearly full.
        """
        limit = self._limits.disk_bytes
        size_bytes, inodes = self._count()
        if size_bytes > limit:
            return f"{self._who} wrote more than {limit} bytes, the limit of disk for a step"
        if room.is_made and inodes > room.most_inodes:
            most = room.most_inodes
            return f"{self._who} made more than {most} files, which is what its limit of {limit} bytes of disk allows"
        if room.is_written and room.is_nearly_full:
            free = room.free_bytes
            return f"the disk is nearly full: {free} bytes are free, over {limit} less than when the step began"
        return None

    def _count(self) -> tuple[int, int]:
        """The bytes and the inodes that the step has written, in all places that it may write to."""
        began = time.monotonic()
        used = [tree_usage(path) for path in self._uppers]
        used += [tree_usage(path, self._began_at) for path in self._shared]
        ended = time.monotonic()
        self._next_count = ended + max(_COUNT_S, (ended - began) * _COUNT_SHARE)
        return sum(usage.size_bytes for usage in used), sum(usage.inodes for usage in used)
