"""Locks by name, across threads and processes, that leave no files behind: byte ranges of one file.  fcntl(2), OFD."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait for, and hold, the flock of ``path`` (made if missing)."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def named(path: Path, name: str) -> Iterator[None]:
    """Wait for, and hold, the lock called ``name`` among those that share the file ``path``.

    Two names meet on one byte with a chance of 2**-62; they would merely wait for each other. Not re-entrant.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _byte_of(name))
        yield
    finally:
        os.close(fd)


def try_named(path: Path, name: str) -> int | None:
    """A descriptor that holds the lock of ``named`` until it is closed; None: somebody else has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _byte_of(name))
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _byte_of(name: str) -> bytes:
    """A lock of one byte, alone, as the kernel takes it."""
    import hashlib  # not for sessions: OpenSSL takes 2 ms to load

    position = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2
    # struct flock: type, whence, start, len, pid. Open file description locks belong to fd, not to the process.
    return struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, position, 1, 0)
