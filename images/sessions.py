"""A session: one process's use of the store, its temporary files, and the leases that keep its content alive.

    tmp/.lock          flock: held while a session is made or dead ones are looked for
    tmp/<id>/lock      flock: held for as long as the session lives; the kernel drops it however the process ends
    tmp/<id>/…         what this session is writing
    snapshots/<id>-N/  snapshots that this session made or is making

A lease is a row (session, object). Garbage collection spares what a living session has leased. A writer takes the lease
in the same transaction as the row, or before it looks: so what was seen under a lease stays.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from core.files import try_lock
from images.database import Database
from images.locks import exclusive
from images.trees import remove_tree


class Session:
    """One process's use of the store. Made by ``begin``. Thread-safe."""

    def __init__(self, root: Path, identity: str, lock_fd: int, database: Database) -> None:
        self.id = identity
        self.tmp = root / "tmp" / identity
        self._root = root
        self._lock_fd = lock_fd
        self._database = database
        self._leased: set[str] = set()
        self._named: list[str] = []
        self._counter = itertools.count()

    @classmethod
    def begin(cls, root: Path, database: Database) -> Session:
        """Make a session directory and lock it. The caller holds ``tmp/.lock``."""
        identity = os.urandom(8).hex()
        directory = root / "tmp" / identity
        os.mkdir(directory, 0o700)
        lock_fd = try_lock(directory / "lock")
        assert lock_fd is not None, "a session's name is its own"
        return cls(root, identity, lock_fd, database)

    def lease(self, objects: Iterable[str]) -> None:
        """Keep these digests or snapshot keys from being collected until the session ends. They need not exist yet."""
        new = [(self.id, item) for item in dict.fromkeys(objects) if item not in self._leased]
        if new:
            with self._database.transaction() as connection:
                connection.executemany("INSERT OR IGNORE INTO leases VALUES (?, ?)", new)
            self._leased.update(item for _, item in new)

    def note_leased(self, item: str) -> None:
        """Remember a lease whose row the caller has written."""
        self._leased.add(item)

    def new_name(self) -> str:
        """A name below snapshots/ that nobody else is given. A directory of that name goes with the session, unless a
        row has it.
        """
        name = f"{self.id}-{next(self._counter)}"
        self._named.append(name)
        return name

    def new_path(self) -> str:
        """A path for a temporary file or directory of this session."""
        return f"{self.tmp}/{next(self._counter)}"

    def end(self) -> None:
        """Drop the leases and remove what this session left unfinished."""
        try:
            _forget(self._root, self.id, self._named, self._database)
        finally:
            os.close(self._lock_fd)


def find_dead(root: Path) -> dict[str, int | None]:
    """Sessions whose process is gone, each with the descriptor of its lock, now ours. Caller holds ``tmp/.lock``.

    None: the directory has no lock. Its owner was killed while making it, or is just removing it; we may help.
    """
    dead: dict[str, int | None] = {}
    with os.scandir(root / "tmp") as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        try:
            lock_fd = _try_existing_lock(root, name)
        except FileNotFoundError:
            dead[name] = None
        else:
            if lock_fd is not None:
                dead[name] = lock_fd
    return dead


def reclaim(root: Path, dead: dict[str, int | None], database: Database) -> None:
    """Remove what dead sessions left: temporary files, unfinished snapshots, leases."""
    for identity, lock_fd in dead.items():
        try:
            with os.scandir(root / "snapshots") as entries:
                begun = [entry.name for entry in entries if entry.name.startswith(f"{identity}-")]
            _forget(root, identity, begun, database)
        finally:
            if lock_fd is not None:
                os.close(lock_fd)


def reclaim_all(root: Path, database: Database) -> None:
    """Find and reclaim dead sessions, and drop leases whose session directory a power loss has taken."""
    with exclusive(root / "tmp" / ".lock"):
        dead = find_dead(root)
    reclaim(root, dead, database)
    with database.transaction() as connection:
        # A session's directory is older than its first lease: within this transaction, no directory means dead.
        for (identity,) in connection.execute("SELECT DISTINCT session FROM leases").fetchall():
            if not os.path.isdir(root / "tmp" / identity):
                connection.execute("DELETE FROM leases WHERE session = ?", (identity,))


def remove_orphan_snapshots(root: Path, database: Database) -> int:
    """Remove snapshot directories that no row mentions and no living session is making; returns the bytes freed."""
    freed = 0
    alive: dict[str, bool] = {}
    with os.scandir(root / "snapshots") as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        owner = name.partition("-")[0]
        if owner not in alive:
            alive[owner] = _is_alive(root, owner)
        if not alive[owner] and database.one("SELECT 1 FROM snapshots WHERE path = ?", (name,)) is None:
            freed += remove_tree(f"{root}/snapshots/{name}")
    return freed


def _is_alive(root: Path, identity: str) -> bool:
    try:
        lock_fd = _try_existing_lock(root, identity)
    except FileNotFoundError:
        return False
    if lock_fd is not None:
        os.close(lock_fd)
    return lock_fd is None


def _try_existing_lock(root: Path, identity: str) -> int | None:
    """The session's lock, or None when its process holds it. Makes no file, for the directory may be on its way out."""
    fd = os.open(root / "tmp" / identity / "lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _forget(root: Path, identity: str, begun: Iterable[str], database: Database) -> None:
    """begun: the session's directories in snapshots/, finished or not."""
    finished = {path for (path,) in database.all("SELECT path FROM snapshots WHERE path GLOB ?", (f"{identity}-*",))}
    for name in begun:
        if name not in finished:
            remove_tree(f"{root}/snapshots/{name}")
    remove_tree(str(root / "tmp" / identity))
    # Last: it needs space, which the above may have freed. Without the directory the leases no longer count.
    if database.one("SELECT 1 FROM leases WHERE session = ? LIMIT 1", (identity,)):
        with database.transaction() as connection:
            connection.execute("DELETE FROM leases WHERE session = ?", (identity,))
