"""Uploads: bytes that are on their way to be a blob, in ``ROOT/serve/uploads/<id>``.

The only state is the file. Its size is how far the upload has come, so killing the server loses nothing that was
acknowledged. The hash so far is kept in memory; when it is lost, it is made again from the file. One request at a time
writes to an upload (flock). At the end the file is fsynced, renamed to its digest and linked, in one commit.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import sqlite3
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from core.digests import Digest
from core.errors import StorageFullError
from core.files import storage_errors
from core.writeback import EarlyWriteback
from registry.errors import ErrorCode
from registry.server.content import Blob, Content, digest_of_file, over_quota
from registry.server.errors import SpecError, digest_mismatch, upload_unknown
from registry.server.rows import Rows
from registry.server.settings import ServerSettings

if TYPE_CHECKING:
    from hashlib import _Hash

_ID: Final = re.compile(r"[0-9a-f]{32}")
_REMEMBERED_HASHES: Final = 1024
_LOCK_WAIT_S: Final = 5.0
_LOCK_STEP_S: Final = 0.02


class BrokenBodyError(Exception):
    """The client stopped sending, or sent no valid chunks. What came before that is kept."""


@dataclass(slots=True)
class _Open:
    """An upload that this request holds the lock of. size: bytes in the file."""

    id: str
    file: BinaryIO
    path: str
    size: int


class Uploads:
    """The uploads of a registry. Thread-safe; several processes may share a root."""

    def __init__(
        self,
        directory: Path,
        rows: Rows,
        content: Content,
        settings: ServerSettings,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._rows = rows
        self._content = content
        self._settings = settings
        self._clock = clock
        self._hashes: OrderedDict[str, tuple[int, _Hash]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, repository: str) -> str:
        """Start an upload and return its ID. Raises StorageFullError."""
        identity = uuid.uuid4().hex
        with storage_errors("an upload"):
            os.close(os.open(self._path(identity), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        try:
            with self._rows.transaction(durable=False) as connection:
                connection.execute(
                    "INSERT INTO registry_uploads VALUES (?, ?, ?)", (identity, repository, self._clock())
                )
        except BaseException:
            os.unlink(self._path(identity))
            raise
        return identity

    def size(self, repository: str, identity: str) -> int:
        """How far it has come, in bytes. Raises SpecError 404 BLOB_UPLOAD_UNKNOWN."""
        self._check(repository, identity)
        try:
            return os.stat(self._path(identity)).st_size
        except FileNotFoundError:
            raise upload_unknown() from None

    def append(
        self, repository: str, identity: str, pieces: Iterable[bytes], *, start: int | None, length: int | None
    ) -> int:
        """Add a chunk and return the size by then.

        start: where the client says the chunk begins; None: it does not say.
        length: how many bytes it may have at most; None: it does not say.
        Raises SpecError 404; 416 when the chunk is out of order; 403 over quota; StorageFullError (then the chunk
        is dropped).
        BrokenBodyError passes through, with what came before it kept.
        """
        with self._opened(repository, identity) as upload:
            self._append(repository, upload, pieces, start, length)
            return upload.size

    def finish(
        self,
        repository: str,
        identity: str,
        digest: Digest,
        pieces: Iterable[bytes],
        *,
        start: int | None = None,
        length: int | None = None,
    ) -> Blob:
        """Add the last chunk, which may be empty, and make it all a blob, durably.

        Raises as ``append``; SpecError 400 DIGEST_INVALID when the content is another one, which ends the upload.
        """
        with self._opened(repository, identity) as upload:
            self._append(repository, upload, pieces, start, length)
            content = Digest(f"sha256:{self._hash_of(upload).hexdigest()}")
            fd = upload.file.fileno()
            actual = content if digest.algorithm == "sha256" else digest_of_file(fd, digest.algorithm)
            if actual != digest:
                self._drop(upload)
                raise digest_mismatch(digest, actual)
            blob = Blob(digest, content, upload.size)

            def ended(connection: sqlite3.Connection) -> None:
                connection.execute("DELETE FROM registry_uploads WHERE id = ?", (identity,))

            self._content.add(repository, upload.file, upload.path, blob, also=ended)
            self._forget(upload)
            return blob

    def cancel(self, repository: str, identity: str) -> None:
        """Forget an upload. Raises SpecError 404 BLOB_UPLOAD_UNKNOWN."""
        with self._opened(repository, identity) as upload:
            self._drop(upload)

    def expire(self, *, before: float) -> int:
        """Forget uploads that nothing was added to since ``before``, and files without a row; returns how many."""
        expired = 0
        for (identity,) in self._rows.all("SELECT id FROM registry_uploads WHERE started_at < ?", (before,)):
            with contextlib.suppress(SpecError), self._locked(identity) as upload:
                if os.fstat(upload.file.fileno()).st_mtime < before:
                    self._drop(upload)
                    expired += 1
        known = {identity for (identity,) in self._rows.all("SELECT id FROM registry_uploads")}
        with os.scandir(self._directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.name not in known and entry.stat().st_mtime < before:
                        os.unlink(entry.path)
        return expired

    def _append(
        self, repository: str, upload: _Open, pieces: Iterable[bytes], start: int | None, length: int | None
    ) -> None:
        if start is not None and start != upload.size:
            raise _out_of_order(repository, upload)
        hasher = self._hash_of(upload)
        before, room = upload.size, self._content.room_left(repository)
        known = hasher.copy()
        writeback = EarlyWriteback(upload.file.fileno(), before)
        try:
            for piece in pieces:
                if room is not None and upload.size + len(piece) > room:
                    quota = self._settings.policy(repository).quota_bytes or 0
                    raise over_quota(repository, quota, quota - room + upload.size + len(piece))
                if length is not None and upload.size + len(piece) > before + length:
                    raise SpecError(400, ErrorCode.SIZE_INVALID, f"more than the {length} bytes of Content-Range")
                _write(upload.file, piece, writeback)
                hasher.update(piece)
                upload.size += len(piece)
        except (StorageFullError, SpecError):
            os.ftruncate(upload.file.fileno(), before)  # a full disk is not to stay full of what cannot be finished
            upload.size, hasher = before, known
            raise
        finally:
            with self._lock:
                self._hashes[upload.id] = (upload.size, hasher)
                self._hashes.move_to_end(upload.id)
                while len(self._hashes) > _REMEMBERED_HASHES:
                    self._hashes.popitem(last=False)

    def _hash_of(self, upload: _Open) -> _Hash:
        """The sha256 state of the file's bytes: the one in memory, when it is of just these, else made again."""
        with self._lock:
            size, hasher = self._hashes.get(upload.id, (-1, None))
        if hasher is not None and size == upload.size:
            return hasher
        made = hashlib.sha256()
        buffer = memoryview(bytearray(1 << 20))
        offset = 0
        while offset < upload.size and (got := os.preadv(upload.file.fileno(), [buffer], offset)):
            made.update(buffer[:got])
            offset += got
        return made

    @contextlib.contextmanager
    def _opened(self, repository: str, identity: str) -> Iterator[_Open]:
        self._check(repository, identity)
        with self._locked(identity) as upload:
            self._check(repository, identity)  # who held the lock may have finished it
            yield upload

    @contextlib.contextmanager
    def _locked(self, identity: str) -> Iterator[_Open]:
        path = self._path(identity)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            raise upload_unknown() from None
        with open(descriptor, "r+b", buffering=0) as file:
            _lock(file)
            size = file.seek(0, os.SEEK_END)
            yield _Open(identity, file, path, size)

    def _check(self, repository: str, identity: str) -> None:
        if not _ID.fullmatch(identity) or not self._rows.one(
            "SELECT 1 FROM registry_uploads WHERE id = ? AND repository = ?", (identity, repository)
        ):
            raise upload_unknown()

    def _drop(self, upload: _Open) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(upload.path)
        with self._rows.transaction(durable=False) as connection:
            connection.execute("DELETE FROM registry_uploads WHERE id = ?", (upload.id,))
        self._forget(upload)

    def _forget(self, upload: _Open) -> None:
        with self._lock:
            self._hashes.pop(upload.id, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(upload.path)  # content that was here already: the file was not needed

    def _path(self, identity: str) -> str:
        return f"{self._directory}/{identity}"


def _write(file: BinaryIO, piece: bytes, writeback: EarlyWriteback) -> None:
    view = memoryview(piece)
    with storage_errors("an upload"):
        while view:
            view = view[os.write(file.fileno(), view) :]
        writeback.wrote(len(piece))


def _lock(file: BinaryIO) -> None:
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SpecError(
                    409,
                    ErrorCode.BLOB_UPLOAD_INVALID,
                    "another request is writing to this upload: ask for its range later",
                ) from None
            time.sleep(_LOCK_STEP_S)
        else:
            return


def _out_of_order(repository: str, upload: _Open) -> SpecError:
    return SpecError(
        416,
        ErrorCode.BLOB_UPLOAD_INVALID,
        f"chunk out of order: the upload has {upload.size} bytes",
        headers={
            "Location": f"/v2/{repository}/blobs/uploads/{upload.id}",
            "Range": f"0-{max(0, upload.size - 1)}",
            "Docker-Upload-UUID": upload.id,
        },
    )
