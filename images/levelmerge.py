"""Merging one overlay upper directory into the one below it, by renames: the work is what changed, not what is there.

It can be killed at any instant, and asks between two steps whether it is cancelled. Each step is one that can be taken
again, and ``merge`` goes on where it was left: what has been moved is gone from the directory above. Only times would
be lost on the way, since renames change those of directories: ``merged_times`` reads them before.

Jobs chose every name here, and how deep directories lie. No link is ever followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from core.cancellation import check
from core.files import names_in
from core.kernel import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from images.upperwalk import DIRECTORY_FLAGS, attribute_names, is_opaque, is_whiteout

_CONFINED: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_OPAQUE: Final = "user.overlay.opaque"
_OF_OVERLAYFS: Final = "user.overlay."
_COPIED: Final = ("user.", "system.posix_acl_")


def merged_times(top: str, base: str) -> list[tuple[bytes, int]]:
    """The directories that both have and that become one: paths, and when those of ``top`` were changed.

    In nanoseconds since the epoch. Raises OSError, also for paths that are too long for the kernel, and what ``check``
    raises.
    """
    found = []
    pending = [b"."]
    while pending:
        check()
        path = pending.pop()
        with _both(top, base, path) as (upper, lower):
            found.append((path, os.fstat(upper).st_mtime_ns))
            pending += [_below(path, name) for name in names_in(upper) if _becomes_one(upper, lower, name)]
    return found


def merge(top: str, base: str, aside: str, times: Iterable[tuple[bytes, int]], *, is_lowest: bool) -> int:
    """Move what ``top`` has into ``base``; both then show what they showed before, one above the other.

    aside: an existing directory of the same file system; what is replaced goes there, for the caller to remove.
    times: of ``merged_times``, from before the first attempt.
    is_lowest: nothing lies below ``base``, so that nothing has to be hidden any more.
    ``top`` has no more than empty directories then. Returns the bytes on disk of files that were replaced, without
    those that are aside. Raises OSError, and what ``check`` raises.
    """
    freed = 0
    number = len(os.listdir(aside))
    pending = [(b".", is_lowest)]
    while pending:
        path, is_last = pending.pop()
        with _both(top, base, path) as (upper, lower):
            # Where nothing is below, a mark that something is gone would be listed as a name.
            is_last = is_last or is_opaque(lower, attribute_names(lower, path))
            for name in names_in(upper):
                check()
                if _becomes_one(upper, lower, name):
                    pending.append((_below(path, name), is_last))
                    continue
                there = _stat(lower, name)
                above = os.stat(name, dir_fd=upper, follow_symlinks=False)
                is_gone = not stat.S_ISDIR(above.st_mode) and is_whiteout(above, os.fsencode(name), upper)
                if there is not None:
                    if stat.S_ISDIR(above.st_mode):
                        _hide_below(upper, name)  # what is replaced hid what is below it
                    if stat.S_ISDIR(there.st_mode) or stat.S_ISDIR(above.st_mode) or is_gone:
                        os.rename(name, f"{aside}/{number}", src_dir_fd=lower)
                        number += 1
                    elif there.st_nlink == 1:
                        freed += there.st_blocks * 512
                if is_gone and is_last:
                    os.unlink(name, dir_fd=upper)
                else:
                    os.rename(name, name, src_dir_fd=upper, dst_dir_fd=lower)
    for path, mtime_ns in times:
        with _both(top, base, path) as (upper, lower):
            _make_alike(upper, lower, mtime_ns)
    return freed


def _becomes_one(upper: int, lower: int, name: str) -> bool:
    """Whether this is a directory in both, and the upper one shows what the lower one has."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=upper, follow_symlinks=False).st_mode):
        return False
    there = _stat(lower, name)
    if there is None or not stat.S_ISDIR(there.st_mode):
        return False
    fd = os.open(name, DIRECTORY_FLAGS, dir_fd=upper)
    try:
        return not is_opaque(fd, attribute_names(fd, os.fsencode(name)))
    finally:
        os.close(fd)


def _hide_below(upper: int, name: str) -> None:
    """Make a directory opaque."""
    fd = os.open(name, DIRECTORY_FLAGS, dir_fd=upper)
    try:
        os.setxattr(fd, _OPAQUE, b"y")
    finally:
        os.close(fd)


def _make_alike(upper: int, lower: int, mtime_ns: int) -> None:
    """Give the lower directory what the upper one has: owner, mode, attributes and time."""
    info = os.fstat(upper)
    os.fchown(lower, info.st_uid, info.st_gid)
    os.fchmod(lower, stat.S_IMODE(info.st_mode))
    wanted, there = _attributes(upper), _attributes(lower)
    for name in there.keys() - wanted.keys():
        os.removexattr(lower, name)
    for name, value in wanted.items():
        if there.get(name) != value:
            os.setxattr(lower, name, value)
    os.utime(lower, ns=(mtime_ns, mtime_ns))


def _attributes(directory: int) -> dict[str, bytes]:
    names = attribute_names(directory, b"a directory of a cache")
    return {
        name: os.getxattr(directory, name)
        for name in names
        if name.startswith(_COPIED) and not name.startswith(_OF_OVERLAYFS)
    }


def _stat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _below(path: bytes, name: str) -> bytes:
    return os.fsencode(name) if path == b"." else path + b"/" + os.fsencode(name)


@contextmanager
def _both(top: str, base: str, path: bytes) -> Iterator[tuple[int, int]]:
    """Descriptors of a directory in both."""
    opened: list[int] = []
    try:
        for root in (top, base):
            above = os.open(root, DIRECTORY_FLAGS)
            try:
                opened.append(openat2(above, path, DIRECTORY_FLAGS, resolve=_CONFINED))
            finally:
                os.close(above)
        yield opened[0], opened[1]
    finally:
        for fd in opened:
            os.close(fd)
