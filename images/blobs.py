"""Blobs by digest: ``blobs/sha256/<hex>``, written aside, hashed on the way, fsynced, and renamed into place.

A blob exists when the database says so; a file without a row is what a killed process left, and is collected. The
rename and the row belong to one write transaction, so a collector never takes a file between the two.
"""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from core.digests import Digest
from core.files import fsync_directory, fsync_file, storage_errors
from core.writeback import EarlyWriteback
from images.database import Database
from images.errors import DamagedBlobError, DigestMismatchError, MissingBlobError
from images.sessions import Session

if TYPE_CHECKING:
    from images.damage import CheckedReader, Damage

_BUFFER_BYTES: Final = 256 << 10
_CHUNK_BYTES: Final = 1 << 20
_DIRECT_BYTES: Final = 64 << 10  # pieces from this size on are not copied into the buffer first

_FEW: Final = 4  # fewer syncs than this are not worth threads
_SYNCERS: Final = 8
_ASKED_AT_ONCE: Final = 500  # SQLite takes some thousand parameters

InTransaction = Callable[[sqlite3.Connection, Digest, int], None]


class BlobWriter:
    """A file-like sink that becomes a blob at ``commit``; a context manager that discards what was not committed.

    For one thread at a time. Raises StorageFullError when the disk is full. If the disk keeps up, it writes the
    beginning of a large blob while the end is still to come: so a sync has little to wait for.
    """

    def __init__(self, blobs: BlobStore, path: str, *, sync: bool, cached: bool = True) -> None:
        import hashlib  # not for who only reads: OpenSSL takes 2 ms to load

        self._blobs = blobs
        self._path = path
        self._sync = sync
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._chunk: memoryview | None = None
        self._size = 0
        with storage_errors("a blob"):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._writeback = EarlyWriteback(self._fd, cached=cached)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    @property
    def stored_bytes(self) -> int:
        """Bytes that are in the file; the others are gathered."""
        return self._size - len(self._buffer)

    @property
    def path(self) -> str:
        """The file, until ``commit`` moves it."""
        return self._path

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append ``data`` (a memoryview must be of bytes). Small pieces are gathered."""
        length = len(data)
        self._size += length
        if length < _DIRECT_BYTES:
            self._buffer += data
            if len(self._buffer) >= _BUFFER_BYTES:
                self._flush()
        else:
            self._flush()
            self._store(memoryview(data))
        return length

    def copy_from_fd(self, fd: int, size: int) -> int:
        """Append up to ``size`` bytes read from ``fd`` at its position; returns how many there were before its end."""
        left = size
        if left < _DIRECT_BYTES:
            while left:
                data = os.read(fd, left)
                if not data:
                    break
                self.write(data)
                left -= len(data)
            return size - left
        self._flush()
        if self._chunk is None:
            self._chunk = memoryview(bytearray(_CHUNK_BYTES))
        while left:
            got = os.readv(fd, [self._chunk[: min(left, _CHUNK_BYTES)]])
            if not got:
                break
            self._store(self._chunk[:got])
            self._size += got
            left -= got
        return size - left

    def flush(self) -> None:
        """Pass on what was gathered, for users of file objects; ``commit`` does it too."""
        self._flush()

    def commit(self, expected: Digest | None = None) -> Digest:
        """Make what was written a blob, leased to this session, and return its digest.

        With ``sync`` (the default) its bytes have reached the disk; its row does with the next durable transaction,
        such as ``images.put``'s. Raises DigestMismatchError when the digest is not ``expected``; nothing is kept then.
        """
        return self._finish(None, expected)

    def check(self, expected: Digest | None) -> Digest:
        """The digest of what was written so far. Raises DigestMismatchError when ``expected`` is another one."""
        self._flush()
        digest = Digest.from_hex(self._hash.hexdigest())
        if expected is not None and expected != digest:
            raise DigestMismatchError(f"content of {self._size} bytes has digest {digest}, expected {expected}")
        return digest

    def discard(self) -> None:
        """Forget what was written; does nothing after ``commit``."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _finish(self, register: InTransaction | None, expected: Digest | None) -> Digest:
        try:
            digest = self.check(expected)
            self._blobs.admit(self._fd, self._path, digest, self._size, sync=self._sync, register=register)
            return digest
        finally:
            self.discard()

    def _flush(self) -> None:
        if self._buffer:
            gathered, self._buffer = self._buffer, bytearray()
            self._store(memoryview(gathered))

    def _store(self, data: memoryview) -> None:
        self._hash.update(data)
        size = len(data)
        with storage_errors("a blob"):
            while data:
                data = data[os.write(self._fd, data) :]
            self._writeback.wrote(size)


class BlobStore:
    """Content by digest. Whatever is written or looked up is leased to the session: it stays until the session ends."""

    def __init__(self, root: Path, database: Database, session: Session) -> None:
        self._directory = str(root / "blobs" / "sha256")
        self._database = database
        self._session = session
        self._sizes: dict[str, int] = {}  # seen under our lease, so still true

    def writer(self, *, sync: bool = True, cached: bool = True) -> BlobWriter:
        """Begin a blob. sync=False: until someone calls ``make_durable`` (``images.put`` does), a reboot loses it.

        cached=False: nobody here is about to read it, so what the disk has of it need not stay in memory.
        """
        return BlobWriter(self, self._session.new_path(), sync=sync, cached=cached)

    def put(self, data: bytes, *, sync: bool = True) -> Digest:
        """Write a small blob and return its digest."""
        digest = Digest.of(data)
        if self._size_or_none(digest) is not None and self._has_content(digest, data):
            if sync:
                self.make_durable((digest,))
            return digest
        with self.writer(sync=sync) as writer:
            writer.write(data)
            return writer.commit()

    def has(self, digest: Digest) -> bool:
        """Whether the blob is here; if so it stays for this session."""
        return self._size_or_none(digest) is not None

    def size(self, digest: Digest) -> int:
        """Bytes. Raises MissingBlobError."""
        size = self._size_or_none(digest)
        if size is None:
            raise self.absent(digest)
        return size

    def absent(self, digest: Digest, what: str = "blob") -> MissingBlobError:
        """The error for a caller that needs a blob that ``has`` does not know. what: what to call it."""
        damage = self.damage()
        if damage.is_noted(digest):
            return damage.error(digest)
        return MissingBlobError(f"{what} {digest} is not in the store")

    def path(self, digest: Digest) -> Path:
        """Where the blob's bytes are; read-only, and there for as long as this session. Raises MissingBlobError."""
        self.size(digest)
        return Path(self._file(digest))

    def open(self, digest: Digest) -> BinaryIO:
        """The blob as an unbuffered, seekable file. Raises MissingBlobError; DamagedBlobError when it is too short."""
        size = self.size(digest)
        try:
            file = io.FileIO(self._file(digest), "rb")
        except FileNotFoundError:
            raise MissingBlobError(
                f"blob {digest} has lost its file {self._file(digest)}",
                hint="the store was changed by hand; build again",
            ) from None
        if os.fstat(file.fileno()).st_size != size:
            file.close()
            raise self.note_damaged(digest)
        return file

    def open_checked(self, digest: Digest) -> CheckedReader:
        """The blob, to be passed on whole; the reader raises DamagedBlobError. Raises MissingBlobError."""
        from images.damage import CheckedReader

        return CheckedReader(self.open(digest), digest, self.note_damaged)

    @contextlib.contextmanager
    def checking(self, digests: Iterable[Digest]) -> Iterator[None]:
        """Hash these blobs while the block runs. Raises DamagedBlobError at its end, and MissingBlobError."""
        from images.damage import Beside

        with Beside({digest: str(self.path(digest)) for digest in digests}, self.note_damaged):
            yield

    def check(self, digest: Digest) -> None:
        """Raise DamagedBlobError if the blob is here and has other content."""
        if self.has(digest):
            with self.open_checked(digest):
                pass

    def read_checked(self, digest: Digest) -> bytes:
        """All of a small blob, its digest compared. Raises MissingBlobError, DamagedBlobError."""
        data = self.read(digest)
        if Digest.of(data) != digest:
            raise self.note_damaged(digest)
        return data

    def damage(self) -> Damage:
        """What is known to be damaged."""
        from images.damage import Damage

        return Damage(self._database, self._session)

    def note_damaged(self, digest: Digest) -> DamagedBlobError:
        """Let the blob count as absent until a good copy comes in. Returns the error for a caller to raise."""
        self._sizes.pop(digest, None)
        return self.damage().note(digest)

    def read(self, digest: Digest) -> bytes:
        """All of a small blob. Raises MissingBlobError."""
        with self.open(digest) as file:
            return file.read()

    def make_durable(self, digests: Iterable[Digest]) -> None:
        """Fsync those of these blobs that were written with ``sync=False``."""
        wanted = list(dict.fromkeys(digests))
        volatile: list[Digest] = []
        for at in range(0, len(wanted), _ASKED_AT_ONCE):
            some = wanted[at : at + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._database.all(f"SELECT digest FROM blobs WHERE volatile AND digest IN ({marks})", some)  # noqa: S608 - question marks
            volatile += [Digest(digest) for (digest,) in rows]
        if not volatile:
            return
        with storage_errors("a blob"):
            # File systems gather what is synced at the same time.
            _in_threads(lambda digest: fsync_file(self._file(digest)), volatile)
        fsync_directory(self._directory)
        with self._database.transaction() as connection:
            connection.executemany("UPDATE blobs SET volatile = 0 WHERE digest = ?", [(d,) for d in volatile])

    def admit(
        self,
        fd: int,
        path: str,
        digest: Digest,
        size: int,
        *,
        sync: bool,
        register: InTransaction | None,
        lease: bool = True,
        durable: bool = False,
    ) -> None:
        """Move the finished file ``path`` (open as ``fd``) into place, with ``register``'s rows in the transaction.

        It takes the place of a file that is damaged.
        lease=False: for processes that live long; ``register`` must pin the blob.
        durable: the rows survive power loss.
        """
        with storage_errors(f"blob {digest.short}"):
            repairs = self._is_damaged(digest, path, lease=lease)
            sync = sync or repairs  # what is there may be durable
            if sync:
                os.fsync(fd)
            with self._database.transaction(durable=durable) as connection:
                if lease:
                    connection.execute("INSERT OR IGNORE INTO leases VALUES (?, ?)", (self._session.id, digest))
                if register is not None:  # first: when it refuses, nothing was moved
                    register(connection, digest, size)
                known = connection.execute("SELECT volatile FROM blobs WHERE digest = ?", (digest,)).fetchone()
                if known is None or repairs or (sync and known[0]):
                    os.rename(path, self._file(digest))
                    if sync:
                        fsync_directory(self._directory)
                    connection.execute(
                        "INSERT INTO blobs VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET volatile = 0",
                        (digest, size, time.time(), not sync),
                    )
                if repairs:
                    from images.damage import FORGET_SNAPSHOTS

                    connection.execute("DELETE FROM damaged WHERE digest = ?", (digest,))
                    connection.execute(FORGET_SNAPSHOTS, (digest, self._session.id))
        if lease:
            self._session.note_leased(digest)
            self._sizes[digest] = size

    def lease(self, digests: Iterable[Digest]) -> None:
        """Keep these digests for this session, whether they exist yet or not; one transaction for all."""
        self._session.lease(digests)

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        """Those that are not here; the others stay for this session."""
        wanted = list(digests)
        self._session.lease(wanted)
        unknown = [digest for digest in wanted if digest not in self._sizes]
        for at in range(0, len(unknown), _ASKED_AT_ONCE):
            some = unknown[at : at + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._database.all(f"SELECT digest, size FROM sound_blobs WHERE digest IN ({marks})", some)  # noqa: S608 - question marks
            self._sizes.update((Digest(digest), int(size)) for digest, size in rows)
        return [digest for digest in wanted if digest not in self._sizes]

    def _is_damaged(self, digest: Digest, good: str, *, lease: bool) -> bool:
        """Whether the blob is here already, with other content than the file ``good`` that is to take its place."""
        known = "SELECT 1 FROM blobs WHERE digest = ?"
        if self._database.one(known, (digest,)) is None:
            return False
        if lease:
            self._session.lease((digest,))  # so that it stays while we look
        from images.damage import same_content

        return not same_content(good, self._file(digest)) and self._database.one(known, (digest,)) is not None

    def _has_content(self, digest: Digest, data: bytes) -> bool:
        try:
            return self.read(digest) == data
        except MissingBlobError:
            return False

    def _size_or_none(self, digest: Digest) -> int | None:
        size = self._sizes.get(digest)
        if size is None:
            self._session.lease((digest,))
            row = self._database.one("SELECT size FROM sound_blobs WHERE digest = ?", (digest,))
            if row is not None:
                size = self._sizes[digest] = int(row[0])
        return size

    def _file(self, digest: str) -> str:
        return f"{self._directory}/{digest.removeprefix('sha256:')}"


def _in_threads(act: Callable[[Digest], None], items: Sequence[Digest]) -> None:
    """``act`` on each item, by threads where they are many. Raises what the first to fail raised."""
    if len(items) <= _FEW:
        for item in items:
            act(item)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_SYNCERS, thread_name_prefix="sync") as pool:
        for done in [pool.submit(act, item) for item in items]:
            done.result()
