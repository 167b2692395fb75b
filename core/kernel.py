"""System calls that Python has no name for: look-ups that cannot leave their root, an exchange of two names, syncfs,
sync_file_range, and priorities of I/O.

A module of its own because ctypes takes a millisecond or two to load, which a build that changes nothing need not
spend.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_SYS_OPENAT2 = 437  # the same number on every architecture (Linux 5.6)
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

MOST_WALKS = 10_000
"""Tries of a walk that renames disturb. A file system of somebody's own may say the same (EAGAIN) for ever."""

_SYNC_FILE_RANGE_WRITE = 2
_AT_FDCWD = -100
_SYS_IOPRIO_SET = {"x86_64": 251, "s390x": 282, "ppc64le": 273}.get(os.uname().machine, 30)
_SYS_IOPRIO_GET = _SYS_IOPRIO_SET + 1
_IOPRIO_WHO_PROCESS = 1
_RENAME_EXCHANGE = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(directory: int, path: str | bytes, flags: int, *, resolve: int, mode: int = 0) -> int:
    """Open ``path`` below the descriptor ``directory``, with the kernel confining the walk.  openat2(2).

    resolve: RESOLVE_IN_ROOT (``..`` and absolute links stay inside, as after chroot) or RESOLVE_BENEATH (an escape is
    EXDEV), with others or-ed in. Returns a close-on-exec descriptor. Raises OSError.
    """
    name = os.fsencode(path)
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    number = errno.EAGAIN
    for _ in range(MOST_WALKS):
        fd = _libc.syscall(_SYS_OPENAT2, directory, name, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        number = ctypes.get_errno()
        if number not in (errno.EINTR, errno.EAGAIN):  # EAGAIN: a rename raced with the walk
            break
    raise OSError(number, os.strerror(number), os.fsdecode(name))


def sync_filesystem(path: str | Path) -> None:
    """Write everything that the file system at ``path`` has not written yet: far faster than one fsync for each of
    thousands of small files.  syncfs(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(fd)


def exchange(one: str | Path, other: str | Path) -> None:
    """Let two files or directories of one file system change places, in one step.  renameat2(2), RENAME_EXCHANGE."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(one), None, str(other))


def start_writeback(fd: int, start: int, size: int) -> None:
    """Let the disk begin with these bytes of a file, and do not wait for it; nothing is durable by this alone.

    Raises OSError.  sync_file_range(2).
    """
    if _libc.sync_file_range(fd, start, size, _SYNC_FILE_RANGE_WRITE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def io_priority(pid: int) -> int:
    """Class and level by which a process uses disks; 0 is this one.  ioprio_get(2). Raises OSError."""
    found = _libc.syscall(_SYS_IOPRIO_GET, _IOPRIO_WHO_PROCESS, pid)
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(found)


def set_io_priority(priority: int) -> None:
    """Use disks by this class and level, as ``io_priority`` gives it.  ioprio_set(2). Raises OSError."""
    if _libc.syscall(_SYS_IOPRIO_SET, _IOPRIO_WHO_PROCESS, 0, priority) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
