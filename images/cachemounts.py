"""Cache mounts: directories that outlive builds, for package managers and compilers; no content of images.

    cache-mounts/<key>-<n>/        files; made under another name and renamed, so it is whole when it is there
    cache-mounts/<key>-<n>.lock    flock: shared by those who share it, exclusive for one user; never removed.
                                   Its content is the mount's ID, for people
    cache-mounts/.locks            byte-range locks by name: each directory is made once

The key is a digest of the mount's ID, of what it begins as (its owner, mode and source), and, unless it is everybody's,
of its scope. All use number 0. The others are for ``private`` mounts that found number 0 busy. Whoever holds no lock
may find a directory gone.

Version 0.1 had the ID alone in the key. The first mount of an ID takes over the directory that 0.1 left for that ID,
with its content, if it asks for the owner that the directory has.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from core.files import could_lock, storage_errors
from core.trust import COMMON, Scope, scoped
from images.locks import named
from images.trees import remove_tree, tree_bytes

Sharing: TypeAlias = Literal["shared", "private", "locked"]

_POLL_S = 0.05
_LONGEST_NAME = 4096


class CacheMount(NamedTuple):
    """The directory of one cache mount.

    id: the directory's name.
    name: the mount's ID, as the Dockerfile has it, and whose it is.
    in_use: by a process, this one too.
    made_at, used_at: seconds since the epoch.
    """

    id: str
    name: str
    made_at: float
    used_at: float
    in_use: bool


class Beginning(NamedTuple):
    """What a cache is when it is made. Two mounts of one ID that begin otherwise are two caches, as in BuildKit.

    uid, gid, mode: of the directory.
    source: identity of the files that it begins with; empty for none.
    """

    uid: int = 0
    gid: int = 0
    mode: int = 0o755
    source: str = ""

    @property
    def shown(self) -> str:
        """What is not the default, for people."""
        owner = f" ({self.uid}:{self.gid} {self.mode:04o})" if self[:3] != (0, 0, 0o755) else ""
        return owner + (" (begun from files)" if self.source else "")


_EMPTY: Final = Beginning()


class CacheMounts:
    """The cache mounts below a store's root; any number of threads and processes may use them at once."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "cache-mounts"

    @contextlib.contextmanager
    def use(
        self,
        name: str,
        sharing: Sharing,
        create: Callable[[str], None],
        stopped: Callable[[], bool],
        *,
        beginning: Beginning = _EMPTY,
        scope: Scope = COMMON,
    ) -> Iterator[str | None]:
        """Hold the directory of the mount ``name`` in ``scope`` that began as ``beginning`` says.

        Yields its path; None when ``stopped`` came true while waiting.
        shared: with others who share it; waits for one who has it locked.
        locked: alone; waits for all others.
        private: alone; takes another directory when it is busy.
        create: gets the path of a new empty directory, to give it mode, owner and content.
        Raises StorageFullError and what ``create`` raises.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        key, earlier_key = _key(f"{name}\0{tuple(beginning)}", scope), _key(name, scope)
        shown = name + beginning.shown + (f" of {scope}" if scope else "")
        kind = fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX
        for number in count():
            path = self._directory / f"{key}-{number}"
            fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                held = could_lock(fd, kind)
                while not held and sharing != "private" and not stopped():
                    time.sleep(_POLL_S)
                    held = could_lock(fd, kind)
                if held:
                    if not os.fstat(fd).st_size:
                        with storage_errors("a cache mount"):
                            os.write(fd, shown.encode("utf-8", "surrogateescape")[:_LONGEST_NAME])
                    os.utime(fd)  # when it was last used
                    if not path.is_dir():
                        self._take_over(self._directory / f"{earlier_key}-{number}", path, beginning)
                    self._make(path, create)
                    yield str(path)
                    return
                if sharing != "private":
                    yield None
                    return
            finally:
                os.close(fd)

    def _take_over(self, earlier: Path, path: Path, beginning: Beginning) -> None:
        """Take what version 0.1 left under the ID alone, if it has the owner asked for and nobody uses it just now."""
        try:
            fd = os.open(f"{earlier}.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if could_lock(fd, fcntl.LOCK_EX):
                with contextlib.suppress(FileNotFoundError), named(self._directory / ".locks", path.name):
                    owner = os.stat(earlier)
                    if (owner.st_uid, owner.st_gid) == (beginning.uid, beginning.gid) and not path.is_dir():
                        os.rename(earlier, path)
        finally:
            os.close(fd)

    def _make(self, path: Path, create: Callable[[str], None]) -> None:
        if path.is_dir():
            return
        with storage_errors("a cache mount"), named(self._directory / ".locks", path.name):
            if path.is_dir():
                return
            new = f"{path}.new"
            remove_tree(new)
            os.mkdir(new)
            create(new)
            os.rename(new, path)

    def list(self) -> list[CacheMount]:
        """Those that there are, by name."""
        found = []
        for lock in sorted(self._directory.glob("*.lock")):
            path = lock.with_suffix("")
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
            try:
                in_use, used_at = not could_lock(fd, fcntl.LOCK_EX), os.fstat(fd).st_mtime
                name = os.read(fd, _LONGEST_NAME).decode("utf-8", "backslashreplace")
            finally:
                os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                made_at = os.stat(path).st_ctime
                found.append(CacheMount(path.name, name, made_at, used_at, in_use))
        return found

    def size_bytes(self, name: str) -> int:
        """What a mount takes on disk, found out file by file."""
        return tree_bytes(str(self._directory / name))

    def remove(self, name: str, until: float | None = None) -> int:
        """Remove one unless somebody uses it; the bytes freed on disk. until: only if last used before this time."""
        path = self._directory / name
        try:
            fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        freed = 0
        try:
            if (until is None or os.fstat(fd).st_mtime < until) and could_lock(fd, fcntl.LOCK_EX):
                aside = f"{path}.new"  # what a killed process left of it is removed with the next one's making
                freed += remove_tree(aside)
                with contextlib.suppress(FileNotFoundError):
                    os.rename(path, aside)
                    freed += remove_tree(aside)
        finally:
            os.close(fd)
        return freed

    def prune(self, until: float | None = None) -> int:
        """Remove those that nobody uses; the bytes freed on disk.

        until: only those last used before this time, in seconds since the epoch.
        """
        return sum(self.remove(lock.stem, until) for lock in sorted(self._directory.glob("*.lock")))


def _key(text: str, scope: Scope) -> str:
    return scoped(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), scope)[:32]
