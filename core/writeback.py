"""Early writeback: the disk begins with a large file before its end has come, so a sync has little to wait for."""

from __future__ import annotations

import errno
import os
import time
from typing import Final

WINDOW_BYTES: Final = 16 << 20
"""After so many bytes the disk has to begin."""

_OF_THE_DISK: Final = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT})
_SLOW_S: Final = 0.1  # a disk that takes longer for a window has a full queue: whoever fills it further waits
_UNCACHED_BYTES: Final = 8 * WINDOW_BYTES  # how far back one looks for what the disk has by now


class EarlyWriteback:
    """Tells the disk of each window of a file that is written from front to end. For one thread at a time.

    Nothing is durable by this alone. A disk that is slow is told no more.

    fd: of the file, open for writing.
    start: where the writing begins.
    cached: False: nobody is about to read it, so what the disk has of it need not stay in memory.
    """

    __slots__ = ("_begun", "_cached", "_fd", "_keeps_up", "_written")

    def __init__(self, fd: int, start: int = 0, *, cached: bool = True) -> None:
        self._fd = fd
        self._cached = cached
        self._written = self._begun = start  # what the kernel has, and what the disk was told to write
        self._keeps_up = True

    def wrote(self, size: int) -> None:
        """So many bytes more are in the file. Raises OSError for a disk that is full or broken."""
        self._written += size
        if self._written - self._begun >= WINDOW_BYTES and self._keeps_up:
            self._start()

    def _start(self) -> None:
        from core.kernel import start_writeback  # ctypes: not for small files

        began = time.monotonic()
        try:
            start_writeback(self._fd, self._begun, self._written - self._begun)
        except OSError as error:
            if error.errno in _OF_THE_DISK:
                raise
            self._keeps_up = False  # a file system, or a sandbox, that does not know the call: it need not
            return
        if not self._cached:  # of the windows before
            start = max(0, self._begun - _UNCACHED_BYTES)
            os.posix_fadvise(self._fd, start, self._begun - start, os.POSIX_FADV_DONTNEED)
        self._begun = self._written
        self._keeps_up = time.monotonic() - began < _SLOW_S
