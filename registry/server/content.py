"""Blobs as repositories see them: linked, opened, mounted, unlinked. The bytes are the local store's.

A blob is visible only where it was pushed or mounted. Content is kept under its sha256; a blob that was pushed under
its sha512 is a link that has both names.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from core.digests import Digest
from core.files import storage_errors
from images.store import Store
from registry.errors import ErrorCode
from registry.server.errors import SpecError, blob_unknown
from registry.server.rows import Rows
from registry.server.settings import ServerSettings

_CHUNK_BYTES: Final = 1 << 20
_USED: Final = (
    "SELECT coalesce(sum(size), 0) FROM (SELECT content, size FROM registry_blobs WHERE repository = :id"
    " UNION SELECT content, size FROM registry_manifests WHERE repository = :id)"
)


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob in a repository. content: its sha256, which names the file."""

    digest: Digest
    content: Digest
    size: int


class Content:
    """The blobs of a registry's repositories. Thread-safe."""

    def __init__(
        self, store: Store, rows: Rows, settings: ServerSettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._rows = rows
        self._settings = settings
        self._clock = clock
        self._directory = store.root / "blobs" / "sha256"

    def find(self, repository: str, digest: Digest) -> Blob:
        """Look a blob up. Raises SpecError 404 BLOB_UNKNOWN, whether it is elsewhere or nowhere.

        One that is known to be damaged counts as absent: whoever pushes it again sends the bytes that repair it.
        """
        row = self._rows.one(
            "SELECT b.content, b.size, b.touched_at, r.id FROM registry_blobs b JOIN registry_repositories r"
            " ON r.id = b.repository WHERE r.name = ? AND b.digest = ?"
            " AND b.content NOT IN (SELECT digest FROM damaged)",
            (repository, digest),
        )
        if row is None:
            raise blob_unknown(digest)
        content, size, touched_at, repository_id = row
        if touched_at < self._clock() - self._settings.grace_s / 4:
            self._touch(repository_id, digest)
        return Blob(digest, Digest(content), size)

    def open(self, blob: Blob) -> BinaryIO:
        """Its bytes, unbuffered; they stay readable even if the blob is deleted. Raises SpecError 404."""
        try:
            return io.FileIO(self.path(blob.content), "rb")
        except FileNotFoundError:
            raise blob_unknown(blob.digest) from None

    def path(self, content: Digest) -> Path:
        """Where content is, if it is here."""
        return self._directory / content.hex

    def read(self, content: Digest) -> bytes:
        """All of something small, such as a manifest. Raises FileNotFoundError."""
        return self.path(content).read_bytes()

    def add(
        self, repository: str, file: BinaryIO, path: str, blob: Blob, *, also: Callable[[sqlite3.Connection], None]
    ) -> None:
        """Make the finished file ``path`` a blob of ``repository``, durably, with ``also``'s rows in the same commit.

        The file is gone, or useless, afterwards. Raises SpecError 403 over quota, StorageFullError.
        """

        def register(connection: sqlite3.Connection, content: Digest, size: int) -> None:
            self.link(connection, repository, Blob(blob.digest, content, size))
            also(connection)

        self._store.blobs.admit(
            file.fileno(), path, blob.content, blob.size, sync=True, register=register, lease=False, durable=True
        )

    def put_bytes(self, data: bytes, register: Callable[[sqlite3.Connection, Digest], None]) -> None:
        """Store something small, with ``register``'s rows, which pin it, in one commit. Raises StorageFullError."""
        temporary = f"{self._store.tmp}/manifest-{uuid.uuid4().hex}"
        with storage_errors("a manifest"), open(temporary, "xb", buffering=0) as file:
            try:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                self._store.blobs.admit(
                    file.fileno(),
                    temporary,
                    Digest.of(data),
                    len(data),
                    sync=True,
                    register=lambda connection, content, _size: register(connection, content),
                    lease=False,
                    durable=True,
                )
            finally:
                Path(temporary).unlink(missing_ok=True)

    def mount(self, repository: str, digest: Digest, *, source: str | None, readable: Callable[[str], bool]) -> bool:
        """Link a blob that another repository has (``source``, or any), or the local store. Returns whether it did.

        readable: whether this client may pull from a repository; asked with "" for the local store's own images. What
        hidden repositories have is not among these.
        """
        if source is None and readable(""):
            with contextlib.suppress(FileNotFoundError):  # removed just now
                self._store.blobs.make_durable((digest,))  # compressed layers are not, until somebody relies on them
        with self._rows.transaction() as connection:
            found = connection.execute(
                "SELECT b.content, b.size, r.name FROM registry_blobs b JOIN registry_repositories r"
                " ON r.id = b.repository WHERE b.digest = ? AND (? IS NULL OR r.name = ?)"
                " AND b.content NOT IN (SELECT digest FROM damaged)",
                (digest, source, source),
            ).fetchall()
            for content, size, name in found:
                if readable(name):
                    self.link(connection, repository, Blob(digest, Digest(content), size))
                    return True
            is_hidden = any(self._settings.is_hidden(name) for _, _, name in found)  # and may not be read there
            if source is None and digest.algorithm == "sha256" and not is_hidden and readable(""):
                row = connection.execute(
                    "SELECT size FROM sound_blobs WHERE digest = ? AND NOT volatile", (digest,)
                ).fetchone()
                if row is not None:
                    self.link(connection, repository, Blob(digest, digest, row[0]))
                    return True
        return False

    def unlink(self, repository: str, digest: Digest) -> None:
        """Take a blob out of a repository; an empty repository goes. Raises SpecError 404 BLOB_UNKNOWN."""
        with self._rows.transaction() as connection:
            gone = connection.execute(
                "DELETE FROM registry_blobs WHERE digest = ?"
                " AND repository = (SELECT id FROM registry_repositories WHERE name = ?) RETURNING repository",
                (digest, repository),
            ).fetchall()
            for (repository_id,) in gone:
                drop_if_empty(connection, repository_id, math.inf)
        if not gone:
            raise blob_unknown(digest)

    def link(self, connection: sqlite3.Connection, repository: str, blob: Blob) -> None:
        """Make content visible in a repository, which is made if new. Raises SpecError 403 over quota."""
        repository_id = self.repository_id(connection, repository)
        connection.execute(
            "INSERT INTO registry_blobs VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (repository, digest) DO UPDATE SET touched_at = excluded.touched_at",
            (repository_id, blob.digest, blob.content, blob.size, self._clock()),
        )
        self.check_quota(connection, repository, repository_id)

    def repository_id(self, connection: sqlite3.Connection, repository: str) -> int:
        """The repository's key; made when it is new."""
        connection.execute(
            "INSERT OR IGNORE INTO registry_repositories (name, created_at) VALUES (?, ?)", (repository, self._clock())
        )
        row = connection.execute("SELECT id FROM registry_repositories WHERE name = ?", (repository,)).fetchone()
        return int(row[0])

    def check_quota(self, connection: sqlite3.Connection, repository: str, repository_id: int) -> None:
        """Raise SpecError 403 when the repository now has more than its quota."""
        quota = self._settings.policy(repository).quota_bytes
        if quota is not None:
            used = connection.execute(_USED, {"id": repository_id}).fetchone()[0]
            if used > quota:
                raise over_quota(repository, quota, used)

    def room_left(self, repository: str) -> int | None:
        """Bytes until the quota is reached; None without quota."""
        quota = self._settings.policy(repository).quota_bytes
        if quota is None:
            return None
        row = self._rows.one("SELECT id FROM registry_repositories WHERE name = ?", (repository,))
        used = self._rows.all(_USED.replace(":id", "?"), (row[0], row[0]))[0][0] if row else 0
        return max(0, quota - used)

    def _touch(self, repository_id: int, digest: Digest) -> None:
        """Whoever was told that a blob is here gets the whole grace period to push the manifest that needs it."""
        with self._rows.transaction(durable=False) as connection:
            connection.execute(
                "UPDATE registry_blobs SET touched_at = ? WHERE repository = ? AND digest = ?",
                (self._clock(), repository_id, digest),
            )


def over_quota(repository: str, quota: int, needed: int) -> SpecError:
    return SpecError(
        403,
        ErrorCode.DENIED,
        f"quota exceeded: repository {repository} may hold {quota} bytes and would have {needed}",
        detail={"quota": quota, "needed": needed},
    )


def digest_of_file(fd: int, algorithm: str) -> Digest:
    """Hash a whole file with sha256 or sha512, whatever its position."""
    hasher = hashlib.new(algorithm)
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    offset = 0
    while got := os.preadv(fd, [buffer], offset):
        hasher.update(buffer[:got])
        offset += got
    return Digest(f"{algorithm}:{hasher.hexdigest()}")


def drop_if_empty(connection: sqlite3.Connection, repository_id: int, before: float) -> None:
    """Forget a repository that has no content, nor an upload on its way, unless it was made after ``before``."""
    connection.execute(
        "DELETE FROM registry_repositories WHERE id = ? AND created_at < ?"
        " AND NOT EXISTS (SELECT 1 FROM registry_manifests WHERE repository = registry_repositories.id)"
        " AND NOT EXISTS (SELECT 1 FROM registry_blobs WHERE repository = registry_repositories.id)"
        " AND NOT EXISTS (SELECT 1 FROM registry_uploads u WHERE u.repository = registry_repositories.name)",
        (repository_id, before),
    )
