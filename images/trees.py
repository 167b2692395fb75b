"""Removing directory trees that containers wrote, and counting what that frees."""

from __future__ import annotations

import contextlib
import os


def remove_tree(path: str) -> int:
    """Remove ``path`` and all below it, following no link, and return the bytes freed on disk.

    What others remove at the same time is no error. Raises OSError.
    """
    freed = 0
    with contextlib.suppress(FileNotFoundError):
        freed = _empty(path)
        os.rmdir(path)
    return freed


def _empty(path: str) -> int:
    freed = 0
    try:
        entries = os.scandir(path)
    except PermissionError:  # overlayfs leaves work/work with mode 0; root does not get here
        os.chmod(path, 0o700)
        entries = os.scandir(path)
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                freed += remove_tree(entry.path)
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                os.unlink(entry.path)
                if status.st_nlink == 1:
                    freed += status.st_blocks * 512
    return freed


def tree_bytes(path: str) -> int:
    """What ``path`` and all below it take on disk, a file with several names counted once. 0 when it is not there.

    What others remove at the same time does not count.
    """
    total = 0
    inodes: set[tuple[int, int]] = set()
    pending = [path]
    while pending:
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError),
            os.scandir(pending.pop()) as it,
        ):
            for entry in it:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    inode = (status.st_dev, status.st_ino)
                    if status.st_nlink == 1 or inode not in inodes:
                        total += status.st_blocks * 512
                        inodes.add(inode)
    return total
