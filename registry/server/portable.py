"""Export and import: all that a registry has, as data that another registry can take in."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from core.digests import Digest
from core.files import storage_errors
from registry.server.content import Blob
from registry.server.errors import digest_mismatch
from registry.server.rules import check_document

if TYPE_CHECKING:
    from registry.server.registry import Registry

_CHUNK_BYTES: Final = 1 << 20


class SupportsRead(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes: ...


class PortableManifest(msgspec.Struct, frozen=True):
    """A manifest, as a backup has it.

    digest: as it was pushed. content: its sha256.
    """

    digest: str
    content: str
    media_type: str
    tags: tuple[str, ...]


class PortableBlob(msgspec.Struct, frozen=True):
    """A blob, as a backup has it.

    digest: as it was pushed. content: its sha256.
    """

    digest: str
    content: str
    size: int


class PortableRepository(msgspec.Struct, frozen=True):
    """A repository, as a backup has it.

    manifests: each after those that it lists.
    rules: that somebody chose for it, as a row of ``rules.Rules`` has them; empty: none.
    """

    name: str
    manifests: tuple[PortableManifest, ...]
    blobs: tuple[PortableBlob, ...]
    rules: str = ""

    def contents(self) -> set[Digest]:
        """All that is to be carried, by sha256."""
        manifests = {Digest(manifest.content) for manifest in self.manifests}
        return manifests | {Digest(blob.content) for blob in self.blobs}


def list_repositories(registry: Registry) -> list[PortableRepository]:
    """What there is at one moment, without hidden repositories."""
    sql = "SELECT id, name FROM registry_repositories WHERE NOT (name >= ? AND name < ?) ORDER BY name"
    with registry.rows.transaction(durable=False) as connection:
        names = connection.execute(sql, registry.settings.hidden_range).fetchall()
        return [_repository(connection, identity, name) for identity, name in names]


def add_content(
    registry: Registry, repositories: Sequence[PortableRepository], content: Digest, stream: SupportsRead
) -> None:
    """Take in bytes, as blobs of those repositories that list them. Raises SpecError, StorageFullError."""
    wanted = [
        (repository.name, Blob(Digest(blob.digest), content, blob.size))
        for repository in repositories
        for blob in repository.blobs
        if blob.content == content
    ]
    if not wanted:
        return
    (name, first), *others = wanted

    def link_others(connection: sqlite3.Connection) -> None:
        for other, blob in others:
            registry.content.link(connection, other, blob)

    path = f"{registry.store.tmp}/restored-{uuid.uuid4().hex}"
    with storage_errors("an image"), open(path, "xb", buffering=0) as file:
        try:
            hashed = hashlib.sha256()
            while data := stream.read(_CHUNK_BYTES):
                hashed.update(data)
                file.write(data)
            found = Digest(f"sha256:{hashed.hexdigest()}")
            if found != content:
                raise digest_mismatch(content, found)
            registry.content.add(name, file, path, first, also=link_others)
        finally:
            if os.path.lexists(path):
                os.unlink(path)


def add_manifest(registry: Registry, repository: str, manifest: PortableManifest, data: bytes) -> None:
    """Take in a manifest, and point its tags to it, wherever they point now. Raises SpecError.

    It may lack the parts that it lacked before, for example because it was mirrored and never pulled whole.
    """
    registry.manifests.put(
        repository,
        data,
        manifest.media_type,
        digest=Digest(manifest.digest),
        tags=manifest.tags,
        complete=False,
        immutable=False,
    )


def add_rules(registry: Registry, repository: PortableRepository) -> None:
    """Take in what was chosen for a repository, in place of what is. Raises SpecError 400 for what nobody can mean."""
    if repository.rules:
        check_document(repository.rules)
        with registry.rows.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO registry_rules VALUES (?, ?)", (repository.name, repository.rules)
            )


def _repository(connection: sqlite3.Connection, identity: int, name: str) -> PortableRepository:
    tags: dict[str, list[str]] = {}
    for tag, digest in connection.execute(
        "SELECT name, digest FROM registry_tags WHERE repository = ? ORDER BY name", (identity,)
    ):
        tags.setdefault(digest, []).append(tag)
    manifests = connection.execute(
        "SELECT digest, content, media_type FROM registry_manifests WHERE repository = ? ORDER BY depth, digest",
        (identity,),
    )
    blobs = connection.execute(
        "SELECT digest, content, size FROM registry_blobs WHERE repository = ? ORDER BY digest", (identity,)
    )
    rules = connection.execute("SELECT document FROM registry_rules WHERE repository = ?", (name,)).fetchone()
    return PortableRepository(
        name,
        tuple(PortableManifest(row[0], row[1], row[2], tuple(tags.get(row[0], ()))) for row in manifests),
        tuple(PortableBlob(*row) for row in blobs),
        rules[0] if rules is not None else "",
    )
