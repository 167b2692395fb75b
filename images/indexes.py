"""Indexes: images for several platforms under one name, with what belongs to them (attestations, for example).

An index is a document that names manifests. Those of images in the store are its *images*. All others are its
*artifacts*, kept whole without being understood. The manifests name the blobs that registries have, compressed layers
for instance. So the index's digest, which other documents may name, holds everywhere; see packing.py.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from core.digests import Digest
from core.errors import InvalidReferenceError
from core.platforms import Platform
from core.references import Reference
from core.trust import COMMON, Domain
from images.blobs import BlobStore
from images.database import Database
from images.errors import ImageNotFoundError, InvalidManifestError, MissingBlobError
from images.holdings import Holdings
from images.lookup import Lookup
from images.oci import Descriptor, Index, Manifest, decode_index, decode_manifest, encode
from images.platforms import choose, offered

if TYPE_CHECKING:
    from images.summary import Image

# A run does not take a name that the administrator has given.
_SET_NAME: Final = (
    "INSERT INTO names (name, image_id, index_digest, given) VALUES (?, ?, ?, ?) ON CONFLICT (name)"
    " DO UPDATE SET image_id = excluded.image_id, index_digest = excluded.index_digest, given = excluded.given"
    " WHERE excluded.given = '' OR names.given <> ''"
)


def set_name(
    connection: sqlite3.Connection, name: Reference, image: Digest, index: Digest | None, domain: Domain
) -> None:
    """Give an image, or an index and its default image, the name (``latest`` unless tagged), for ``domain``."""
    given = COMMON if domain.is_host else domain.scope
    connection.execute(_SET_NAME, (str(name.with_default_tag()), image, index, given))


class IndexEntry(NamedTuple):
    """A manifest of an index, as the index describes it. image: None for artifacts."""

    descriptor: Descriptor
    image: Image | None


class StoredIndex(NamedTuple):
    """An index in the store.

    data: the document, byte for byte.
    entries: in its order.
    names: sorted.
    """

    digest: Digest
    data: bytes
    document: Index
    entries: tuple[IndexEntry, ...]
    names: tuple[Reference, ...]
    created_at: float

    @property
    def images(self) -> list[Image]:
        """Those that belong to it, in its order."""
        return [entry.image for entry in self.entries if entry.image is not None]


_Indexes: TypeAlias = list[StoredIndex]  # within the class, "list" is the method


class IndexStore:
    """Indexes by digest and by name. What is put or found stays, with all that it has, while the session lasts."""

    def __init__(
        self, database: Database, blobs: BlobStore, holdings: Holdings, image: Callable[[Digest], Image]
    ) -> None:
        """image: the image with an ID, leased for this session; raises ImageNotFoundError."""
        self._database = database
        self._holdings = holdings
        self._blobs = blobs
        self._image = image
        self._lookup = Lookup(database)

    def put(self, index: Index | bytes, *, names: Iterable[Reference] = ()) -> StoredIndex:
        """Make an index of manifests that are in the store as blobs; durable, and named, when it returns.

        index: bytes are kept as they are, so that the digest stays. A manifest whose config is an image of the store
        is that image's. Any other must have its config and every layer in the store as blobs. Raises MissingBlobError,
        and InvalidManifestError when it has no image, or names an index.
        """
        document = decode_index(index) if isinstance(index, bytes) else index
        data = index if isinstance(index, bytes) else encode(index)
        rows: list[tuple[int, Digest, Digest | None]] = []
        kept: list[Digest] = []
        for position, entry in enumerate(document.manifests):
            manifest = self._manifest(entry)
            image_id = manifest.config.digest if self._is_image(manifest.config.digest) else None
            rows.append((position, entry.digest, image_id))
            kept.append(entry.digest)
            if image_id is None:
                kept += [manifest.config.digest, *(layer.digest for layer in manifest.layers if not layer.urls)]
        images = [image_id for _, _, image_id in rows if image_id is not None]
        if not images:
            raise InvalidManifestError("an index in the store needs an image, and this one names none that is there")
        missing = self._blobs.missing(kept)
        if missing:
            raise MissingBlobError(f"blob {missing[0]}, which the index names, is not in the store")
        digest = self._blobs.put(data, sync=False)
        self._blobs.make_durable((digest, *kept))
        with self._database.transaction(durable=True) as connection:
            self._insert(connection, digest, rows, kept)
            default = self._default(document, rows)
            for name in names:
                set_name(connection, name, default, digest, self._holdings.domain)
        return self.get(digest)

    def get(self, digest: Digest) -> StoredIndex:
        """The index of exactly this digest. Raises ImageNotFoundError."""
        row = self._database.one("SELECT created_at FROM indexes WHERE digest = ?", (digest,))
        if row is None:
            raise ImageNotFoundError(f"no index has the digest {digest}")
        kept = self._database.all("SELECT digest FROM index_blobs WHERE index_digest = ?", (digest,))
        self._blobs.lease([digest, *(Digest(blob) for (blob,) in kept)])
        entries = self._database.all(
            "SELECT image_id FROM index_entries WHERE index_digest = ? ORDER BY position", (digest,)
        )
        names = self._database.all("SELECT name FROM names WHERE index_digest = ? ORDER BY name", (digest,))
        try:
            data = self._blobs.read(digest)
        except MissingBlobError as error:
            raise ImageNotFoundError(f"index {digest.short} was removed a moment ago") from error
        document = decode_index(data)
        return StoredIndex(
            digest,
            data,
            document,
            tuple(
                IndexEntry(entry, None if image_id is None else self._image(Digest(image_id)))
                for entry, (image_id,) in zip(document.manifests, entries, strict=True)
            ),
            tuple(Reference.parse(name) for (name,) in names),
            row[0],
        )

    def find(self, text: str) -> StoredIndex | None:
        """The index that this name or digest stands for; None when it stands for a single image, or for nothing."""
        try:
            target = self._lookup.by_text(text)
        except (ImageNotFoundError, InvalidReferenceError):
            return None
        return None if target.index_digest is None else self.get(target.index_digest)

    def list(self) -> _Indexes:
        """All indexes, newest first."""
        rows = self._database.all("SELECT digest FROM indexes ORDER BY created_at DESC, digest")
        return [self.get(Digest(digest)) for (digest,) in rows]

    def choose(self, digest: Digest, platform: Platform | None) -> Digest:
        """The ID of the index's image for ``platform``; None: for this host, or else the first.

        Raises ImageNotFoundError.
        """
        index = self.get(digest)
        images = [(entry.descriptor, entry.image.id) for entry in index.entries if entry.image is not None]
        found = _chosen(images, platform or Platform.host()) or (images[0][1] if platform is None else None)
        if found is None:
            called = index.names[0].familiar if index.names else digest.short
            there = ", ".join(offered([descriptor for descriptor, _ in images]))
            raise ImageNotFoundError(f"{called} is not here for {platform}", hint=f"it is for {there}")
        return found

    def _manifest(self, entry: Descriptor) -> Manifest:
        try:
            data = self._blobs.read(entry.digest)
        except MissingBlobError as error:
            raise MissingBlobError(f"manifest {entry.digest}, which the index names, is not in the store") from error
        return decode_manifest(data)

    def _is_image(self, digest: Digest) -> bool:
        self._blobs.lease((digest,))
        return self._database.one("SELECT 1 FROM images WHERE id = ?", (digest,)) is not None

    def _insert(
        self,
        connection: sqlite3.Connection,
        digest: Digest,
        rows: Sequence[tuple[int, Digest, Digest | None]],
        kept: Iterable[Digest],
    ) -> None:
        connection.execute("INSERT OR IGNORE INTO indexes VALUES (?, ?)", (digest, time.time()))
        connection.executemany(
            "INSERT OR IGNORE INTO index_entries VALUES (?, ?, ?, ?)", [(digest, *row) for row in rows]
        )
        connection.executemany("INSERT OR IGNORE INTO index_blobs VALUES (?, ?)", [(digest, blob) for blob in kept])

    def _default(self, document: Index, rows: Sequence[tuple[int, Digest, Digest | None]]) -> Digest:
        """The image that the index's names stand for where nobody asks for a platform."""
        images = [(document.manifests[position], image_id) for position, _, image_id in rows if image_id is not None]
        return _chosen(images, Platform.host()) or images[0][1]


def _chosen(images: Sequence[tuple[Descriptor, Digest]], platform: Platform) -> Digest | None:
    entry = choose([descriptor for descriptor, _ in images], platform)
    return next((image_id for descriptor, image_id in images if descriptor is entry), None)
