"""Blobs whose bytes are no longer what was written: noted, refused, and replaced by the next good copy.

A blob that is found damaged counts as absent from then on, so that a pull fetches it again and a build runs its step
again. Its file stays: it may be all that there is. Whoever passes content on reads it by ``CheckedReader``, or has
``Beside`` read it too, so that damage does not travel. Both hash on threads of their own, to use another core.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import BinaryIO, Final, Self

from core.digests import Digest
from images.behind import Behind
from images.database import Database
from images.errors import DamagedBlobError
from images.sessions import Session

_CHUNK_BYTES: Final = 1 << 20

Damaged = Callable[[Digest], DamagedBlobError]

# Of what is derived from a layer: what nobody else uses now. What other sessions have mounted stays until they end.
FORGET_SNAPSHOTS: Final = (
    "DELETE FROM snapshots WHERE diff_id = ? AND NOT EXISTS"
    " (SELECT 1 FROM leases WHERE object = diff_id AND session <> ?)"
)


class Damage:
    """What is known to be damaged."""

    def __init__(self, database: Database, session: Session) -> None:
        self._database = database
        self._session = session

    def note(self, digest: Digest) -> DamagedBlobError:
        """Let the blob count as absent. Returns the error for a caller to raise."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO damaged VALUES (?, ?)", (digest, time.time()))
            connection.execute(FORGET_SNAPSHOTS, (digest, self._session.id))
        return self.error(digest)

    def note_sound(self, digests: Collection[Digest]) -> None:
        """These were read whole, and are right."""
        noted = {digest for (digest,) in self._database.all("SELECT digest FROM damaged")}
        if again := [(digest,) for digest in digests if digest in noted]:
            with self._database.transaction() as connection:
                connection.executemany("DELETE FROM damaged WHERE digest = ?", again)

    def is_noted(self, digest: Digest) -> bool:
        return self._database.one("SELECT 1 FROM damaged WHERE digest = ?", (digest,)) is not None

    def error(self, digest: Digest) -> DamagedBlobError:
        """Says what is damaged and what replaces it."""
        layer = self._database.one("SELECT diff_id FROM compressed WHERE digest = ?", (digest,))
        if layer is not None and self._database.one("SELECT 1 FROM sound_layers WHERE diff_id = ?", layer):
            return DamagedBlobError(
                f"blob {digest}, a compressed layer, is damaged: the file in the store has other content",
                hint="run the same command again: it is made anew from the layer",
            )
        what = "layer" if self._database.one("SELECT 1 FROM layers WHERE diff_id = ?", (digest,)) else "blob"
        return DamagedBlobError(
            f"{what} {digest} is damaged: the file in the store has other content",
            hint="pull or load an image that has it, or build it again: the good copy takes its place."
            " shiplap image verify finds what else is damaged",
        )


class CheckedReader:
    """A blob, read from front to end and hashed on the way, on a thread where it is large. A context manager.

    ``read`` does not return the end (``b""``), and the context does not end, before the digest is known to be right.
    Raises what ``damaged`` returns for the digest.
    """

    def __init__(self, file: BinaryIO, digest: Digest, damaged: Damaged) -> None:
        self._file = file
        self._digest = digest
        self._damaged = damaged
        self._hash = hashlib.sha256()
        self._threads = ExitStack()
        self._behind = self._threads.enter_context(Behind(_Hashing(self._hash.update)))
        self._checked = False

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size) if not self._checked else b""
        if data:
            self._behind.write(data)
        elif size:
            self._check()
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                while self.read(_CHUNK_BYTES):
                    pass
            else:
                self._threads.__exit__(kind, error, trace)
        finally:
            self._file.close()

    def _check(self) -> None:
        if not self._checked:
            self._checked = True
            self._threads.close()
            if self._hash.hexdigest() != self._digest.hex:
                raise self._damaged(self._digest)


class _Hashing:
    def __init__(self, update: Callable[[bytes], None]) -> None:
        self._update = update

    def write(self, data: bytes, /) -> None:
        self._update(data)


class Beside:
    """Reads and hashes whole blobs on a thread, while others take parts of them. A context manager.

    Leaving it without an exception waits, and raises what ``damaged`` returns for the first with another digest.
    """

    def __init__(self, files: Mapping[Digest, str], damaged: Damaged) -> None:
        self._files = files
        self._damaged = damaged
        self._stopped = False
        self._wrong: Digest | None = None
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._work, name="checking")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = kind is not None
        self._thread.join()
        if kind is None:
            if self._error is not None:
                raise self._error
            if self._wrong is not None:
                raise self._damaged(self._wrong)

    def _work(self) -> None:
        try:
            for digest, path in self._files.items():
                if hash_file(path, lambda: self._stopped) != digest.hex:
                    self._wrong = digest
                    return
        except OSError as error:
            self._error = error


def hash_file(path: str, stopped: Callable[[], bool] = lambda: False) -> str:
    """The SHA-256 of a file, in hex. stopped: asked for each megabyte, and ends it early. Raises OSError."""
    checksum = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while (got := os.readv(fd, [buffer])) and not stopped():
            checksum.update(buffer[:got])
    finally:
        os.close(fd)
    return checksum.hexdigest()


def same_content(one: str, other: str) -> bool:
    """Whether two files have the same bytes; no when the second one is gone or cannot be read."""
    a = os.open(one, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            b = os.open(other, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            if os.fstat(a).st_size != os.fstat(b).st_size:
                return False
            while data := os.read(a, _CHUNK_BYTES):
                if os.read(b, _CHUNK_BYTES) != data:
                    return False
            return True
        except OSError:  # a sector that cannot be read is damage, too
            return False
        finally:
            os.close(b)
    finally:
        os.close(a)
