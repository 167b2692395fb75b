"""Manifests, tags and referrers of repositories: pushed after everything that they refer to, pulled byte by byte."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.digests import Digest
from registry.errors import ErrorCode
from registry.server.content import Content
from registry.server.documents import Document, LinkedDescriptor, read_document
from registry.server.errors import SpecError, digest_mismatch, manifest_invalid, manifest_unknown, name_unknown
from registry.server.rows import Rows
from registry.server.settings import ServerSettings

_REFERRERS_PER_PAGE: Final = 500
_REFERRERS_PAGE_BYTES: Final = 3 << 20
_BY_TAG: Final = (
    "SELECT m.digest, m.content, m.size, m.media_type FROM registry_repositories r"
    " JOIN registry_tags t ON t.repository = r.id"
    " JOIN registry_manifests m ON m.repository = r.id AND m.digest = t.digest WHERE r.name = ? AND t.name = ?"
)
_BY_DIGEST: Final = (
    "SELECT m.digest, m.content, m.size, m.media_type FROM registry_repositories r"
    " JOIN registry_manifests m ON m.repository = r.id WHERE r.name = ? AND m.digest = ?"
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest in a repository; ``content`` names its bytes."""

    digest: Digest
    content: Digest
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push of a manifest did. subject: what it is about, or None."""

    digest: Digest
    tags: tuple[str, ...]
    subject: Digest | None


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of many that were to go: gone; refused, for an immutable tag; missing already."""

    gone: tuple[Digest | str, ...]
    refused: tuple[Digest | str, ...]
    missing: tuple[Digest | str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. last: where the next part goes on from; "" when there is none."""

    items: list[Any]
    last: str = ""


class Manifests:
    """The manifests, tags and referrers of a registry's repositories. Thread-safe."""

    def __init__(
        self, rows: Rows, content: Content, settings: ServerSettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._rows = rows
        self._content = content
        self._settings = settings
        self._clock = clock

    def find(self, repository: str, reference: Digest | str) -> Manifest:
        """Look up by digest or tag. Raises SpecError 404 MANIFEST_UNKNOWN."""
        sql = _BY_DIGEST if isinstance(reference, Digest) else _BY_TAG
        row = self._rows.one(sql, (repository, reference))
        if row is None:
            raise manifest_unknown(reference)
        return Manifest(Digest(row[0]), Digest(row[1]), row[2], row[3])

    def read(self, manifest: Manifest) -> bytes:
        """Its bytes as they were pushed. Raises SpecError 404 when it has been deleted."""
        try:
            return self._content.read(manifest.content)
        except FileNotFoundError:
            raise manifest_unknown(manifest.digest) from None

    def put(
        self,
        repository: str,
        data: bytes,
        content_type: str,
        *,
        digest: Digest | None,
        tags: Sequence[str],
        complete: bool = True,
        immutable: bool = True,
    ) -> Pushed:
        """Store a manifest, and point tags at it, in one durable commit.

        digest: what the client says it has; None: its sha256. complete=False: its parts may be missing.
        immutable=False: tags move whatever the rules say. Raises SpecError: 400 for what is no manifest or has another
        digest; 404 MANIFEST_BLOB_UNKNOWN, which names all missing parts; 403 over quota; 409 for a tag that may not
        move.
        """
        actual = Digest(f"{digest.algorithm}:{hashlib.new(digest.algorithm, data).hexdigest()}") if digest else None
        if digest is not None and actual is not None and actual != digest:
            raise digest_mismatch(digest, actual)
        name = digest or Digest.of(data)
        document = read_document(data, content_type)

        def register(connection: sqlite3.Connection, content: Digest) -> None:
            repository_id = self._content.repository_id(connection, repository)
            depth = self._check_references(connection, repository_id, document, complete=complete)
            self._insert(
                connection, repository_id, Manifest(name, content, len(data), document.media_type), document, depth
            )
            for tag in tags:
                self._point(connection, repository, repository_id, tag, name, immutable=immutable)
            self._content.check_quota(connection, repository, repository_id)

        self._content.put_bytes(data, register)
        return Pushed(name, tuple(tags), document.subject)

    def delete(self, repository: str, reference: Digest | str) -> None:
        """Delete a tag; or a manifest with the tags that point to it. Raises SpecError 404, 409 for immutable tags."""
        with self._rows.transaction() as connection:
            row = connection.execute("SELECT id FROM registry_repositories WHERE name = ?", (repository,)).fetchone()
            if row is None:
                raise manifest_unknown(reference)
            self._delete(connection, repository, row[0], reference)

    def delete_all(self, repository: str, references: Sequence[Digest | str]) -> Deleted:
        """``delete`` what can be, of many, in one commit. Raises SpecError 404 for a repository that is not there."""
        gone: list[Digest | str] = []
        refused: list[Digest | str] = []
        missing: list[Digest | str] = []
        with self._rows.transaction() as connection:
            row = connection.execute("SELECT id FROM registry_repositories WHERE name = ?", (repository,)).fetchone()
            if row is None:
                raise name_unknown(repository)
            for reference in dict.fromkeys(references):
                try:
                    self._delete(connection, repository, row[0], reference)
                    gone.append(reference)
                except SpecError as error:
                    (refused if error.status == 409 else missing).append(reference)
        return Deleted(tuple(gone), tuple(refused), tuple(missing))

    def _delete(
        self, connection: sqlite3.Connection, repository: str, repository_id: int, reference: Digest | str
    ) -> None:
        """Changes nothing where it raises."""
        if isinstance(reference, Digest):
            tags = [name for (name,) in connection.execute(_TAGS_OF, (repository_id, reference))]
            sql = "SELECT 1 FROM registry_manifests WHERE repository = ? AND digest = ?"
        else:
            tags = [reference]
            sql = "SELECT 1 FROM registry_tags WHERE repository = ? AND name = ?"
        if connection.execute(sql, (repository_id, reference)).fetchone() is None:
            raise manifest_unknown(reference)
        policy = self._settings.policy(repository)
        for tag in tags:
            if policy.is_immutable(tag):
                raise _immutable(repository, tag)
        connection.executemany(
            "DELETE FROM registry_tags WHERE repository = ? AND name = ?", [(repository_id, tag) for tag in tags]
        )
        if isinstance(reference, Digest):
            delete_manifest(connection, repository_id, reference)

    def tags(self, repository: str, *, limit: int | None, last: str) -> Page:
        """Tags after ``last``, without regard to case, at most ``limit``. Raises SpecError 404 NAME_UNKNOWN."""
        row = self._rows.one("SELECT id FROM registry_repositories WHERE name = ?", (repository,))
        if row is None:
            raise name_unknown(repository)
        names = [
            name
            for (name,) in self._rows.all(
                "SELECT name FROM registry_tags WHERE repository = ? AND (lower(name), name) > (lower(?), ?)"
                " ORDER BY lower(name), name LIMIT ?",
                (row[0], last, last, -1 if limit is None else limit + 1),
            )
        ]
        return _page(names, limit)

    def repositories(self, *, limit: int | None, last: str, visible: Callable[[str], bool]) -> Page:
        """Names of repositories after ``last`` that this client may see; never hidden ones."""
        names = [
            name
            for (name,) in self._rows.all(
                "SELECT name FROM registry_repositories WHERE name > ? AND NOT (name >= ? AND name < ?) ORDER BY name",
                (last, *self._settings.hidden_range),
            )
            if visible(name)
        ]
        return _page(names if limit is None else names[: limit + 1], limit)

    def referrers(self, repository: str, subject: Digest, *, artifact_type: str, last: str) -> Page:
        """Descriptors of the manifests about ``subject``; none for what is not here. artifact_type: "" for all."""
        found = self._rows.all(
            "SELECT m.digest, m.size, m.media_type, m.artifact_type, m.annotations FROM registry_manifests m"
            " JOIN registry_repositories r ON r.id = m.repository WHERE r.name = ? AND m.subject = ?"
            " AND m.digest > ? AND (? = '' OR m.artifact_type = ?) ORDER BY m.digest LIMIT ?",
            (repository, subject, last, artifact_type, artifact_type, _REFERRERS_PER_PAGE + 1),
        )
        items: list[dict[str, object]] = []
        size = 0
        for digest, length, media_type, kind, notes in found[:_REFERRERS_PER_PAGE]:
            size += len(notes) + 500
            if items and size > _REFERRERS_PAGE_BYTES:  # a list is a manifest too: no client takes more than 4 MiB
                break
            item: dict[str, object] = {"mediaType": media_type, "digest": digest, "size": length}
            if kind:
                item["artifactType"] = kind
            if notes != "{}":
                item["annotations"] = json.loads(notes)
            items.append(item)
        return Page(items, str(items[-1]["digest"]) if len(items) < len(found) else "")

    def _check_references(
        self, connection: sqlite3.Connection, repository_id: int, document: Document, *, complete: bool
    ) -> int:
        missing: list[tuple[str, object]] = []
        depth = 0
        for reference in document.blobs:
            row = connection.execute(
                "SELECT size FROM registry_blobs WHERE repository = ? AND digest = ?",
                (repository_id, reference.digest),
            ).fetchone()
            self._check_one(reference, row, missing)
        for reference in document.children:
            row = connection.execute(
                "SELECT size, depth FROM registry_manifests WHERE repository = ? AND digest = ?",
                (repository_id, reference.digest),
            ).fetchone()
            if row is not None:
                depth = max(depth, row[1])
            elif not reference.is_manifest:  # caches of builds list blobs in an index
                row = connection.execute(
                    "SELECT size FROM registry_blobs WHERE repository = ? AND digest = ?",
                    (repository_id, reference.digest),
                ).fetchone()
            self._check_one(reference, row, missing)
        if missing and complete:
            raise SpecError(
                404, ErrorCode.MANIFEST_BLOB_UNKNOWN, "manifest references content unknown to registry", entries=missing
            )
        if document.children and depth + 1 > self._settings.max_depth:
            raise manifest_invalid(f"indexes nested more than {self._settings.max_depth} deep")
        return depth + 1 if document.children else 0

    def _check_one(
        self, reference: LinkedDescriptor, row: tuple[int, ...] | None, missing: list[tuple[str, object]]
    ) -> None:
        if row is not None and row[0] != reference.size:
            raise manifest_invalid(f"{reference.digest} has {row[0]} bytes, not the {reference.size} of its descriptor")
        if row is None and reference.required and not self._settings.allow_missing:
            message = "manifest references a manifest or blob unknown to registry"
            missing.append((message, {"digest": reference.digest}))

    def _insert(
        self, connection: sqlite3.Connection, repository_id: int, manifest: Manifest, document: Document, depth: int
    ) -> None:
        connection.execute(
            "INSERT INTO registry_manifests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (repository, digest)"
            " DO UPDATE SET media_type = excluded.media_type, artifact_type = excluded.artifact_type,"
            " depth = excluded.depth, pushed_at = excluded.pushed_at",
            (
                repository_id,
                manifest.digest,
                manifest.content,
                manifest.size,
                document.media_type,
                document.artifact_type,
                document.subject,
                json.dumps(document.annotations, ensure_ascii=False, separators=(",", ":")),
                depth,
                self._clock(),
            ),
        )
        connection.executemany(
            "INSERT OR IGNORE INTO registry_edges VALUES (?, ?, ?)",
            [(repository_id, manifest.digest, target) for target in document.targets()],
        )

    def _point(
        self,
        connection: sqlite3.Connection,
        repository: str,
        repository_id: int,
        tag: str,
        digest: Digest,
        *,
        immutable: bool,
    ) -> None:
        row = connection.execute(
            "SELECT digest FROM registry_tags WHERE repository = ? AND name = ?", (repository_id, tag)
        ).fetchone()
        moves = row is not None and row[0] != digest
        if moves and immutable and self._settings.policy(repository).is_immutable(tag):
            raise _immutable(repository, tag)
        connection.execute(
            "INSERT OR REPLACE INTO registry_tags VALUES (?, ?, ?, ?)", (repository_id, tag, digest, self._clock())
        )


_TAGS_OF: Final = "SELECT name FROM registry_tags WHERE repository = ? AND digest = ?"


def delete_manifest(connection: sqlite3.Connection, repository_id: int, digest: str) -> None:
    """Remove a manifest's rows; its tags are the caller's to remove."""
    connection.execute("DELETE FROM registry_edges WHERE repository = ? AND manifest = ?", (repository_id, digest))
    connection.execute("DELETE FROM registry_manifests WHERE repository = ? AND digest = ?", (repository_id, digest))


def _page(names: list[str], limit: int | None) -> Page:
    if limit is None or len(names) <= limit:
        return Page(names)
    return Page(names[:limit], names[limit - 1] if limit else "")


def _immutable(repository: str, tag: str) -> SpecError:
    return SpecError(409, ErrorCode.DENIED, f"tag {tag} of {repository} is immutable", detail={"tag": tag})
