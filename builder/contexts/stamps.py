"""Stamps: the stat data by which a file counts as unchanged, and whether that proves anything yet.

As in git's index, equal stat data proves something only about files that were at rest. A file may be written twice
within one tick of its file system's clock, the second time after it was read. So a file is *racy* when its mtime or
ctime is later than one tick before the moment when it was looked at. A program can set mtime back, but not ctime.
"""

from __future__ import annotations

import os
import struct
from typing import Final

STAMP: Final = struct.Struct("<QQQqqI")
"""Device, inode, size, mtime and ctime in nanoseconds, mode."""

_TICK_NS: Final = 50_000_000
"""More than a tick of any clock that Linux stamps local files with (10 ms at most)."""
_COARSE_TICK_NS: Final = 2_500_000_000
"""More than a tick of file systems that keep whole seconds, or two (FAT)."""
_COARSE_UNIT_NS: Final = 1_000_000


def stamp_of(fd: int) -> bytes:
    st = os.fstat(fd)
    return STAMP.pack(st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_mode)


def is_settled(stamp: bytes, looked_at_ns: int) -> bool:
    """Whether a file with this stamp was at rest when it was looked at: a later write would have changed the stamp.

    looked_at_ns: a moment before its content was read, nanoseconds since the epoch.
    """
    _, _, _, mtime_ns, ctime_ns, _ = STAMP.unpack(stamp)
    tick = _COARSE_TICK_NS if ctime_ns % _COARSE_UNIT_NS == 0 else _TICK_NS
    return bool(mtime_ns + tick < looked_at_ns and ctime_ns + tick < looked_at_ns)
