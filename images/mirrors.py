"""Mirrors of repositories, as directories that take disk; what is in them is ``ci/source``'s.

    mirrors/<key>/          one mirror; renamed aside before it is removed
    mirrors/<key>.use       flock: shared by whoever reads it, exclusive here
    mirrors/<key>.lock      flock: exclusive for whoever writes it. Its time says when it was last used, its content for
                            people what it is a mirror of. Neither lock is ever removed
    mirrors/<key>.away-<n>/ what was renamed aside, until nobody reads it any more

Any of them can be fetched again, so they go like all else that can be had again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from core.files import could_lock
from images.trees import remove_tree, tree_bytes

DIRECTORY: Final = "mirrors"
_KEY: Final = re.compile(r"[0-9a-f]{32}(?:-[0-9a-f]{16})?")
_LONGEST_NAME: Final = 4096


class MirrorDirectory(NamedTuple):
    """One mirror.

    key: the directory's name.
    name: whose it is, and of what.
    made_at, used_at: seconds since the epoch.
    in_use: by a process, this one too.
    """

    key: str
    name: str
    made_at: float
    used_at: float
    in_use: bool


class Mirrors:
    """The mirrors below a store's root."""

    def __init__(self, root: Path) -> None:
        self._top = root / DIRECTORY

    def list(self) -> list[MirrorDirectory]:
        """All of them."""
        found = []
        for key in self._keys():
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                lock = self._top / f"{key}.lock"
                made_at, used_at = (self._top / key).stat().st_ctime, lock.stat().st_mtime
                name = lock.read_bytes()[:_LONGEST_NAME].decode("utf-8", "backslashreplace")
                with self._unused(key) as is_unused:
                    found.append(MirrorDirectory(key, name, made_at, used_at, not is_unused))
        return found

    def size_bytes(self, key: str) -> int:
        """What one takes on disk, found out file by file."""
        return tree_bytes(str(self._top / key))

    def remove(self, key: str, until: float | None = None) -> int:
        """Remove one unless somebody uses it; the bytes freed on disk. until: only if last used before this time."""
        freed = 0
        with self._unused(key) as is_unused:
            if is_unused and (until is None or (self._top / f"{key}.lock").stat().st_mtime < until):
                aside = self._top / f"{key}.away-0"
                freed += remove_tree(str(aside))
                with contextlib.suppress(FileNotFoundError):
                    os.rename(self._top / key, aside)
                    freed += remove_tree(str(aside))
        return freed

    def prune(self, until: float | None = None) -> int:
        """Remove those that nobody uses; the bytes freed on disk.

        until: only those last used before this time, in seconds since the epoch.
        """
        return sum(self.remove(key, until) for key in self._keys())

    def _keys(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(name for name in os.listdir(self._top) if _KEY.fullmatch(name)))
        except FileNotFoundError:
            return ()

    @contextlib.contextmanager
    def _unused(self, key: str) -> Iterator[bool]:
        """Hold both locks for a moment, if nobody has them; gives whether that is so."""
        with contextlib.ExitStack() as stack:
            is_free = True
            for suffix in (".use", ".lock"):
                fd = os.open(self._top / f"{key}{suffix}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, fd)
                is_free = is_free and could_lock(fd, fcntl.LOCK_EX)
            yield is_free
