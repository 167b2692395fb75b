"""Locks of a mirror: files that stay, waited for within a bound, and while the work may still be cancelled."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ci.errors import RepositoryError
from core.cancellation import check
from core.files import could_lock

_POLL_S: Final = 0.02


@contextmanager
def holding(path: Path, within_s: float, *, shared: bool = False) -> Iterator[int]:
    """Hold the flock of ``path``, which is made; gives its descriptor. Raises RepositoryError when it stays held."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + within_s
        while not could_lock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            check()
            if time.monotonic() > deadline:
                raise RepositoryError(
                    f"another process has held {path} for over {within_s:.0f} s",
                    hint=f"look for a stopped process (fuser -v {path}) and end it",
                )
            time.sleep(_POLL_S)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def holding_if_free(path: Path) -> Iterator[bool]:
    """Hold the flock of ``path`` alone, if nobody has it; gives whether that is so."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield could_lock(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)
