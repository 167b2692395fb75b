"""A layer that hides files and is no copy of any: whiteouts, which all are one inode, in directories for them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence

from ci.epoch import BEGINNING
from core.cancellation import check


def make_mask(folder: str, hidden: Sequence[str], mode_of: Callable[[str], int]) -> None:
    """Fill the empty directory ``folder``, which is to be mounted above the layers.

    hidden: paths, those of one directory behind each other.
    mode_of: of a directory, its permissions below: in overlayfs the topmost one's count.
    Raises OSError.
    """
    made: list[str] = []  # the directories on the way to the last one, as paths
    finished: list[str] = []
    whiteout = ""
    for path in hidden:
        check()
        parent = path.rpartition("/")[0]
        while made and parent != made[-1] and not parent.startswith(f"{made[-1]}/"):
            finished.append(made.pop())
        while parent != (made[-1] if made else ""):
            start = len(made[-1]) + 1 if made else 0
            end = parent.find("/", start)
            made.append(parent if end < 0 else parent[:end])
            os.mkdir(f"{folder}/{made[-1]}", 0o755)
        place = f"{folder}/{path}"
        if not whiteout or not _linked(whiteout, place):
            os.mknod(place, stat.S_IFCHR, 0)
            whiteout = place
    finished += reversed(made)
    for directory in finished:
        os.chmod(f"{folder}/{directory}", mode_of(directory))
        os.utime(f"{folder}/{directory}", (BEGINNING, BEGINNING))
    os.utime(folder, (BEGINNING, BEGINNING))


def _linked(whiteout: str, place: str) -> bool:
    """Let a whiteout have one more name; False when it has as many as the file system allows."""
    try:
        os.link(whiteout, place)
    except OSError as error:
        if error.errno == errno.EMLINK:
            return False
        raise
    return True
