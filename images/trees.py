"""Removing directory trees that containers wrote, and counting what is in them.

A container can nest directories deeper than any path reaches (PATH_MAX), and deeper than there are descriptors or
levels of recursion. So trees are walked by descriptors, and no deeper than a few levels at a time.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from core.files import names_in

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST_PATH = 900  # in characters, of up to four bytes, with a name to come: below PATH_MAX


def remove_tree(path: str) -> int:
    """Remove ``path`` and all below it, however deep, following no link, and return the bytes freed on disk.

    What others remove at the same time is no error. Raises OSError.
    """
    freed = 0
    with contextlib.suppress(FileNotFoundError):
        fd = _opened(path)
        try:
            freed = _empty(fd) + os.fstat(fd).st_blocks * 512
        finally:
            os.close(fd)
        os.rmdir(path)
    return freed


def empty_directory(directory: int) -> int:
    """Remove everything in a directory, as ``remove_tree``; it may be a descriptor of O_PATH."""
    fd = os.open(".", _FOLDER, dir_fd=directory)
    try:
        return _empty(fd)
    finally:
        os.close(fd)


def _empty(fd: int) -> int:
    """Empty a directory; its subdirectories' subdirectories are moved up first, so the walk never goes deeper.

    Each move has a name of its own: a directory that is moved takes the place of an empty one of its name, which
    another walk of the same tree may be about to remove.
    """
    freed = 0
    walk = os.urandom(6).hex()
    free_names = (f".removed-{walk}-{number}" for number in itertools.count())
    while names := names_in(fd):
        for name in names:
            size = _unlinked(fd, name)
            if size is not None:
                freed += size
                continue
            with contextlib.suppress(FileNotFoundError):
                freed += _remove_directory(fd, name, free_names)
    return freed


def _remove_directory(fd: int, name: str, free_names: Iterator[str]) -> int:
    """Remove ``name`` from the directory ``fd``, moving its subdirectories to ``fd``; the bytes freed."""
    freed = 0
    inside = _opened(name, fd)
    try:
        for child in names_in(inside):
            size = _unlinked(inside, child)
            if size is not None:
                freed += size
                continue
            _move_up(inside, child, fd, free_names)
        freed += os.fstat(inside).st_blocks * 512
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=fd)
    return freed


def _move_up(inside: int, name: str, fd: int, free_names: Iterator[str]) -> None:
    """Move a subdirectory to ``fd``, by the first of these names that is free there."""
    for new in free_names:
        try:
            os.rename(name, new, src_dir_fd=inside, dst_dir_fd=fd)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        else:
            return


def _unlinked(folder: int, name: str) -> int | None:
    """Unlink what is no directory: the bytes freed. None for a directory."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return None
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return 0
    return status.st_blocks * 512 if status.st_nlink == 1 else 0


def _opened(path: str, folder: int | None = None) -> int:
    try:
        return os.open(path, _FOLDER, dir_fd=folder)
    except PermissionError:  # overlayfs leaves work/work with mode 0; root does not get here
        os.chmod(path, 0o700, dir_fd=folder)
        return os.open(path, _FOLDER, dir_fd=folder)


class Usage(NamedTuple):
    """Bytes on disk, and how many files and directories."""

    size_bytes: int
    inodes: int


def tree_bytes(path: str) -> int:
    """What is below ``path`` on disk takes there, a file with several names counted once. 0 when it is not there."""
    return tree_usage(path).size_bytes


def tree_usage(path: str, changed_since: float = 0.0) -> Usage:
    """As ``tree_bytes``, with the number of files and directories. A path of a file is that file.

    changed_since: seconds since the epoch; what has not been changed since then does not count. What others remove at
    the same time does not either.
    """
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            is_new = status.st_ctime >= changed_since
            return Usage(status.st_blocks * 512, 1) if is_new else Usage(0, 0)
    total = count = 0
    inodes: set[tuple[int, int]] = set()
    bases: list[int] = []
    # Directories to count, by the descriptor of one above and the path from there; without a path, a descriptor that
    # has served its turn. Last in, first out: as many are open as a path is times too long.
    pending: list[tuple[int, str]] = [(-1, path)]
    try:
        while pending:
            base, below = pending.pop()
            if not below:
                os.close(bases.pop())
                continue
            try:
                fd = os.open(below, _FOLDER, dir_fd=base if base >= 0 else None)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            if len(below) > _LONGEST_PATH:
                bases.append(fd)
                pending.append((fd, ""))
                prefix, base = "", fd
            else:
                prefix = below + "/"
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            if stat.S_ISDIR(status.st_mode):
                                pending.append((base, prefix + entry.name))
                            inode = (status.st_dev, status.st_ino)
                            if status.st_ctime >= changed_since and (status.st_nlink == 1 or inode not in inodes):
                                total += status.st_blocks * 512
                                count += 1
                                if status.st_nlink > 1:
                                    inodes.add(inode)
            finally:
                if base != fd:
                    os.close(fd)
    finally:
        for fd in bases:
            os.close(fd)
    return Usage(total, count)
