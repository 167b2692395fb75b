"""Locks of open file descriptions: held by a descriptor, not by a process, and asked about without taking them.

Asking by a try at flock(2) is wrong: two that ask see each other. F_OFD_GETLK takes nothing.  fcntl(2)
(Keepers import this: only what is cheap.)
"""

from __future__ import annotations

import fcntl
import os
import struct

_FLOCK = struct.Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid
_ONE = 1


def try_lock(fd: int, at: int = 0) -> bool:
    """Lock the byte at ``at`` for writing if nobody else has it; whether it is ours."""
    return _set(fd, fcntl.F_WRLCK, at)


def share_lock(fd: int, at: int = 0) -> bool:
    """Lock the byte at ``at`` for reading, beside other readers, or turn a lock of ours into that."""
    return _set(fd, fcntl.F_RDLCK, at)


def is_locked(fd: int, at: int = 0) -> bool:
    """Whether another open file description has a lock on the byte at ``at``. Takes nothing."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, _ONE, 0)
    return bool(_FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)


def is_file_locked(path: str) -> bool:
    """The same for the first byte of a file; a file that is not there is not locked."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return is_locked(fd)
    finally:
        os.close(fd)


def _set(fd: int, kind: int, at: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, at, _ONE, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True
