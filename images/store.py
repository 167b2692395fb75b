"""The store: where all content of one ROOT is found.

    ROOT/store.db                 every row there is: see database.py
    ROOT/store.db.ballast         space given up when a full disk is to be cleaned
    ROOT/store.db.rebuilding      there while a lost store.db is made again: see rebuild.py
    ROOT/blobs/sha256/<hex>       see blobs.py
    ROOT/snapshots/<session>-N/   see snapshots.py
    ROOT/cache-mounts/            see cachemounts.py
    ROOT/caches/                  see generations.py
    ROOT/mirrors/                 see mirrors.py
    ROOT/tmp/<session>/           see sessions.py

Opening takes about a millisecond: nothing is scanned but the directory of sessions.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from core.closing import Closing
from core.errors import StorageFullError
from core.files import fsync_directory, make_directory, storage_errors
from core.trust import Domain
from images.blobs import BlobStore
from images.database import Database, release_ballast
from images.errors import StoreAccessError, StoreLostError
from images.holdings import Holdings
from images.layers import LayerStore
from images.locks import exclusive
from images.records import CacheRecords
from images.sessions import Session, find_dead, reclaim, remove_orphan_snapshots

if TYPE_CHECKING:
    from core.digests import DiffID, Digest
    from images.cachemounts import CacheMounts
    from images.cacheuse import CacheUse
    from images.collect import PruneReport
    from images.generations import Generations
    from images.images import ImageStore
    from images.kept import Kept
    from images.lookup import Lookup
    from images.pinned import Pinned
    from images.snapshots import Snapshots


class Store(Closing):
    """Blobs, layers, images, cache records and snapshots below one root. Thread-safe; processes may share the root.

    While the store is open it is a *session*: what it writes or looks up cannot be pruned by others until ``close``, or
    until the process ends. Not to be used on both sides of a fork.
    """

    def __init__(self, root: Path, database: Database, session: Session) -> None:
        self.root = root
        self.tmp = session.tmp
        self.database = database  # for this room
        self._session = session
        self._closed = False
        self.blobs = BlobStore(root, database, session)
        self.holdings = Holdings(database)
        self.layers = LayerStore(root, database, session, self.blobs, self.holdings)
        self.cache = CacheRecords(database, session, self.holdings)
        self._images: ImageStore | None = None
        self._snapshots: Snapshots | None = None
        self._cache_mounts: CacheMounts | None = None

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open or make the store at ``root``, and reclaim what killed processes left.

        Raises StoreVersionError, StoreCorruptError, StoreLostError, StoreAccessError, StorageFullError.
        """
        root = root.absolute()
        begin = functools.partial(_refuse_beside_content, root)
        if rebuilding_file(root).exists():
            raise StoreLostError(
                f"{root}/store.db is being made again, or that was interrupted",
                hint="wait until it has ended, or run shiplap image verify --rebuild again",
            )
        try:
            return cls._open(root, begin)
        except StorageFullError:
            # On a full disk too it must be possible to open the store, and prune it (which makes the ballast again).
            if not release_ballast(root / "store.db"):
                raise
            return cls._open(root, begin)

    @classmethod
    def open_for_rebuild(cls, root: Path) -> Self:
        """As ``open``, also with a database that is lost: rebuild.py makes its rows again, and keeps others out."""
        return cls._open(root, lambda: None)

    @classmethod
    def _open(cls, root: Path, begin: Callable[[], None]) -> Self:
        with storage_errors(str(root)), contextlib.ExitStack() as undo:
            _make_directories(root)
            # Under the lock every session begins after the first of this boot has dropped what the last one left.
            with exclusive(root / "tmp" / ".lock"):
                database = Database(root / "store.db", begin)
                undo.callback(database.close)
                rebooted = _drop_what_a_reboot_lost(database)
                session = Session.begin(root, database)
                undo.pop_all()
                store = cls(root, database, session)
                undo.callback(store.close)
                dead = find_dead(root)
            reclaim(root, dead, database)
            if rebooted:
                remove_orphan_snapshots(root, database)
            undo.pop_all()
            return store

    @property
    def identity(self) -> str:
        """What tells this store from all others, for as long as it has its database: 32 hexadecimal digits."""
        row = self.database.one("SELECT value FROM meta WHERE key = 'identity'")
        if row is None:
            with self.database.transaction(durable=True) as connection:
                connection.execute("INSERT OR IGNORE INTO meta VALUES ('identity', ?)", (os.urandom(16).hex(),))
            row = self.database.one("SELECT value FROM meta WHERE key = 'identity'")
        assert row is not None
        return str(row[0])

    def act_for(self, domain: Domain) -> None:
        """From now on, look things up and give names for this domain. Until then it is the host's own use."""
        self.holdings.domain = domain

    @property
    def images(self) -> ImageStore:
        """Images and their names."""
        if self._images is None:
            from images.images import ImageStore

            self._images = ImageStore(self.root, self.database, self._session, self.blobs, self.layers, self.holdings)
        return self._images

    @property
    def lookup(self) -> Lookup:
        """What names mean, without the images themselves. Nothing that it finds is leased."""
        from images.lookup import Lookup

        return Lookup(self.database)

    @property
    def snapshots(self) -> Snapshots:
        """Root filesystems, derived from layers."""
        if self._snapshots is None:
            from images.snapshots import Snapshots

            self._snapshots = Snapshots(self.root, self.database, self._session, self.layers, self.cache)
        return self._snapshots

    @property
    def cache_mounts(self) -> CacheMounts:
        """Directories that outlive builds."""
        if self._cache_mounts is None:
            from images.cachemounts import CacheMounts

            self._cache_mounts = CacheMounts(self.root)
        return self._cache_mounts

    @property
    def generations(self) -> Generations:
        """Caches of jobs."""
        from images.generations import Generations

        return Generations(self.root)

    @property
    def kept(self) -> Kept:
        """What runs keep for a time, whatever is pruned."""
        from images.kept import Kept

        return Kept(self.database, self._session, self.blobs, self.holdings)

    @property
    def pinned(self) -> Pinned:
        """What containers need, for as long as they exist."""
        from images.pinned import Pinned

        return Pinned(self.database, self._session, self.blobs)

    @property
    def cache_use(self) -> CacheUse:
        """What the build cache takes, and taking some of it away."""
        from images.cacheuse import CacheUse

        return CacheUse(self.root, self.database, self._session, self.cache)

    def remove_unused_blobs(self, *, before: float) -> PruneReport:
        """Remove blobs written before this time (seconds since the epoch) that nothing refers to, and files of none."""
        from images.collect import Collector

        return Collector(self.root, self.database, self._session).remove_blobs(before=before)

    def remove_uppers(self, *, before: float) -> int:
        """Remove what steps wrote before this time, in seconds since the epoch; the bytes that this frees.

        Only where a layer's tar can be mounted instead, and what no living process uses.
        """
        from images.collect import Collector
        from images.erofs import works

        if not works(self._session.new_path()):
            return 0
        return Collector(self.root, self.database, self._session).remove_uppers(before=before).freed_bytes

    def remove_remade(self, pairs: Iterable[tuple[DiffID, Digest]], level: int) -> int:
        """Remove compressed blobs that are made of their layers again; the bytes that this frees. See ``originals``."""
        from images.collect import Collector

        return Collector(self.root, self.database, self._session).remove_remade(pairs, level).freed_bytes

    def close(self) -> None:
        """End the session: its leases and temporary files vanish. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as stack:
            stack.callback(self.database.close)
            stack.callback(self._session.end)
            if self._snapshots is not None:
                stack.callback(self._snapshots.close)
            self.cache.flush()


def rebuilding_file(root: Path) -> Path:
    """The file that keeps a store from being opened: see rebuild.py."""
    return root / "store.db.rebuilding"


def has_lost_its_database(root: Path) -> bool:
    """Whether there is content and a ``store.db`` that is missing or empty."""
    try:
        if (root / "store.db").stat().st_size:
            return False
    except FileNotFoundError:
        pass
    return _has_content(root)


def _has_content(root: Path) -> bool:
    try:
        with os.scandir(root / "blobs" / "sha256") as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False


def _refuse_beside_content(root: Path) -> None:
    """A new store has no content; where there is some, a new database would make garbage of it."""
    if _has_content(root):
        raise StoreLostError(
            f"{root}/store.db is missing or empty, and {root}/blobs has content",
            hint="put a backup of store.db back, or make it again from the content: shiplap image verify --rebuild",
        )


def _make_directories(root: Path) -> None:
    if (root / "store.db").exists():  # the last thing that is made
        return
    try:
        # Private: set-user-ID programs in snapshots are as real on this disk as in the image, and blobs are somebody's.
        make_directory(root, mode=0o700)
        for name in ("blobs", "blobs/sha256", "snapshots", "tmp"):
            (root / name).mkdir(mode=0o711 if name == "snapshots" else 0o755, exist_ok=True)
        for directory in (root / "blobs", root):  # a store.db that survives finds them
            fsync_directory(directory)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise StoreAccessError(
            f"cannot make the store at {root}: {error.strerror}", hint="choose a directory of your own with --root"
        ) from error


def _drop_what_a_reboot_lost(database: Database) -> bool:
    """Rows of files that were never fsynced count only until the machine restarts. Returns whether it has."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot_id = file.read().strip()
    row = database.one("SELECT value FROM meta WHERE key = 'boot_id'")
    if row is not None and row[0] == boot_id:
        return False
    with database.transaction(durable=True) as connection:
        connection.execute("DELETE FROM layers WHERE diff_id IN (SELECT digest FROM blobs WHERE volatile)")
        connection.execute("DELETE FROM compressed WHERE digest IN (SELECT digest FROM blobs WHERE volatile)")
        connection.execute("DELETE FROM blobs WHERE volatile")
        connection.execute("DELETE FROM snapshots")  # derived, and never fsynced
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('boot_id', ?)", (boot_id,))
    return True
