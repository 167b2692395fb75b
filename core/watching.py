"""Waiting until something in a few directories changes.  inotify(7)"""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from core.closing import Closing

_IN_MODIFY: Final = 0x2
_IN_MOVED_TO: Final = 0x80
_IN_CREATE: Final = 0x100
_IN_DELETE: Final = 0x200
_CHANGES: Final = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE
_MANY_BYTES: Final = 1 << 16


class Watch(Closing):
    """Tells that files in these directories were written, made, renamed or removed since it was asked last.

    What happens from the moment that this is made on is not missed: look after that, then wait. Where there is no room
    for another watch (fs.inotify.max_user_instances), every wait lasts its whole time.
    """

    def __init__(self, directories: Iterable[str | Path]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd >= 0:
            for directory in directories:
                libc.inotify_add_watch(self._fd, os.fsencode(directory), _CHANGES)

    def fileno(self) -> int:
        """A descriptor that is readable after a change, until the next ``wait``; -1 where there was no room."""
        return self._fd

    def wait(self, timeout_s: float) -> None:
        """Wait for a change, at most this long."""
        poll = select.poll()
        if self._fd >= 0:
            poll.register(self._fd, select.POLLIN)
        if poll.poll(timeout_s * 1000):
            os.read(self._fd, _MANY_BYTES)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
