"""Images: a config, a manifest, layers, and any number of names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from core.digests import DiffID, Digest
from core.errors import InvalidReferenceError
from core.references import Reference
from images.blobs import BlobStore
from images.database import Database
from images.errors import (
    AmbiguousImageError,
    ImageInUseError,
    ImageNotFoundError,
    InvalidConfigError,
    InvalidManifestError,
    MissingBlobError,
)
from images.oci import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    History,
    ImageConfig,
    Manifest,
    decode_config,
    decode_manifest,
    encode,
)
from images.sessions import Session

if TYPE_CHECKING:
    from images.collect import PruneReport

_MIN_PREFIX: Final = 4
_HEX: Final = frozenset("0123456789abcdef")
_SET_NAME: Final = "INSERT INTO names VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET image_id = excluded.image_id"
_SELECT: Final = "SELECT id, manifest_digest, created_at, size FROM images "


class Image(NamedTuple):
    """An image in the store.

    id: the config's digest. diff_ids: its layers, base first. names: sorted. created_at: when it came into this store,
    seconds since the epoch. size_bytes: of its uncompressed layers.
    """

    id: Digest
    manifest_digest: Digest
    config: ImageConfig
    diff_ids: tuple[DiffID, ...]
    names: tuple[Reference, ...]
    created_at: float
    size_bytes: int


class HistoryEntry(NamedTuple):
    """One line of ``image history``. diff_id is None, and size_bytes 0, for a change of metadata."""

    entry: History
    diff_id: DiffID | None
    size_bytes: int


_Images: TypeAlias = list[Image]  # within the class, "list" is the method
_History: TypeAlias = list[HistoryEntry]
_Lines: TypeAlias = list[str]
_DiffIDs: TypeAlias = list[DiffID]


class ImageStore:
    """Images by ID and by name. What is put, found or resolved stays, layers and all, while the session lasts."""

    def __init__(self, root: Path, database: Database, session: Session, blobs: BlobStore) -> None:
        self._root = root
        self._database = database
        self._session = session
        self._blobs = blobs

    def put(
        self,
        config: ImageConfig | bytes,
        diff_ids: Sequence[DiffID],
        *,
        names: Iterable[Reference] = (),
        manifest: bytes | None = None,
    ) -> Image:
        """Make an image of layers that are in the store; durable when it returns.

        names: given to it in the same transaction, as by ``tag``.
        config: bytes are kept as they are, so that the ID stays; a config without ``rootfs.diff_ids`` gets them here.
        manifest: the one that the image came with, kept as it is, so that its digest stays; its layers may be named by
        digests of compressed blobs that are not here. Without, one that names the uncompressed layers is made, unless
        the image is in the store already.
        Raises MissingBlobError, InvalidConfigError when config and ``diff_ids`` contradict each other, and
        InvalidManifestError when ``manifest`` is of another image.
        """
        decoded = decode_config(config) if isinstance(config, bytes) else config
        layers = tuple(diff_ids)
        if not isinstance(config, bytes) and not decoded.rootfs.diff_ids:
            decoded = msgspec.structs.replace(decoded, rootfs=msgspec.structs.replace(decoded.rootfs, diff_ids=layers))
        if decoded.rootfs.diff_ids != layers:
            raise InvalidConfigError(
                f"the image config names {len(decoded.rootfs.diff_ids)} layers that are not the {len(layers)} given"
            )
        missing = self._blobs.missing(layers)
        if missing:
            raise MissingBlobError(f"layer {missing[0]} is not in the store")
        sizes = [self._blobs.size(diff_id) for diff_id in layers]
        document = config if isinstance(config, bytes) else encode(decoded)
        image_id = self._blobs.put(document, sync=False)
        if manifest is not None:
            _check_manifest(manifest, image_id, len(layers))
        manifest_digest = self._blobs.put(manifest or _own_manifest(document, layers, sizes), sync=False)
        self._blobs.make_durable((image_id, manifest_digest, *layers))
        with self._database.transaction(durable=True) as connection:
            connection.execute(
                "INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?)", (image_id, manifest_digest, time.time(), sum(sizes))
            )
            if manifest is not None:
                connection.execute("UPDATE images SET manifest_digest = ? WHERE id = ?", (manifest_digest, image_id))
            connection.executemany(
                "INSERT OR IGNORE INTO layers (diff_id, size, created_at) VALUES (?, ?, ?)",
                [(diff_id, size, time.time()) for diff_id, size in zip(layers, sizes, strict=True)],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO image_layers VALUES (?, ?, ?)",
                [(image_id, position, diff_id) for position, diff_id in enumerate(layers)],
            )
            for name in names:
                connection.execute(_SET_NAME, (str(name.with_default_tag()), image_id))
        return self.get(image_id)

    def get(self, image_id: Digest) -> Image:
        """The image with exactly this ID. Raises ImageNotFoundError."""
        row = self._database.one(_SELECT + "WHERE id = ?", (image_id,))
        if row is None:
            raise ImageNotFoundError(f"no image has the ID {image_id}")
        return self._leased(row)

    def find(self, reference: Reference) -> Image | None:
        """The image of this name (``latest`` unless tagged), or with ``@digest`` the one that it pins; or None."""
        row = self._by_name(reference.with_default_tag())
        return None if row is None else self._leased(row)

    def resolve(self, text: str) -> Image:
        """What a user means: a name, ``sha256:ID``, or the first digits (at least 4) of an ID.

        Raises ImageNotFoundError (with similar names as the hint), AmbiguousImageError, InvalidReferenceError.
        """
        return self._resolve(text)[0]

    def list(self) -> _Images:
        """All images, newest first. Leases nothing: what is listed may be gone a moment later."""
        rows = self._database.all(_SELECT + "ORDER BY created_at DESC, id")
        names = _grouped(self._database.all("SELECT image_id, name FROM names ORDER BY name"))
        layers = _grouped(self._database.all("SELECT image_id, diff_id FROM image_layers ORDER BY image_id, position"))
        images = []
        for row in rows:
            config = self._config(Digest(row[0]))
            if config is not None:
                images.append(_image(row, config, layers.get(row[0], ()), names.get(row[0], ())))
        return images

    def history(self, image: Image) -> _History:
        """The config's history, oldest first, with each entry's layer. Layers beyond the history get empty entries."""
        sizes = self._database.all(
            "SELECT l.diff_id, l.size FROM image_layers i JOIN layers l ON l.diff_id = i.diff_id"
            " WHERE i.image_id = ? ORDER BY position",
            (image.id,),
        )
        remaining = iter([(DiffID(diff_id), int(size)) for diff_id, size in sizes])
        entries = []
        for entry in image.config.history:
            diff_id, size = (None, 0) if entry.empty_layer else next(remaining, (None, 0))
            entries.append(HistoryEntry(entry, diff_id, size))
        entries.extend(HistoryEntry(History(), diff_id, size) for diff_id, size in remaining)
        return entries

    def tag(self, name: Reference, image: Digest) -> None:
        """Give the image this name (``latest`` unless tagged); if another image has it, the name moves. Durable.

        Raises ImageNotFoundError.
        """
        with self._database.transaction(durable=True) as connection:
            if connection.execute("SELECT 1 FROM images WHERE id = ?", (image,)).fetchone() is None:
                raise ImageNotFoundError(f"no image has the ID {image}")
            connection.execute(_SET_NAME, (str(name.with_default_tag()), image))

    def untag(self, name: Reference) -> None:
        """Take the name away; its image stays. Raises ImageNotFoundError."""
        with self._database.transaction(durable=True) as connection:
            cursor = connection.execute("DELETE FROM names WHERE name = ?", (str(name.with_default_tag()),))
            if cursor.rowcount == 0:
                raise self._not_found(name.familiar)

    def remove(self, text: str, *, force: bool = False) -> _Lines:
        """Remove a name, and the image with its last one; returns what ``docker image rm`` would print.

        Given an ID: removes the image with its names; more than one needs ``force``. Layers that other images, the
        build cache or a living session (this one too) use stay, and so does, without names, an image that another
        session uses; prune takes them later. Raises ImageInUseError, and what ``resolve`` raises.
        """
        from images.collect import Collector

        image, name = self._resolve(text, lease=False)
        if name is not None and len(image.names) > 1:
            self.untag(name)
            return [f"Untagged: {name.familiar}"]
        if len(image.names) > 1 and not force:
            names = ", ".join(n.familiar for n in image.names)
            raise ImageInUseError(
                f"image {image.id.short} has several names: {names}",
                hint="remove names one by one, or all with --force",
            )
        removed = Collector(self._root, self._database, self._session).remove_images([image.id])
        return removed.lines

    def prune(self, *, all_unused: bool = False, cache: bool = False, until: float | None = None) -> PruneReport:
        """Remove images without a name, and everything that nothing refers to.

        all_unused: named images that no living process uses too. cache: the build cache and its mounts too.
        until: only what was made (cache: last used) before this time, in seconds since the epoch.
        """
        from images.collect import Collector

        report = Collector(self._root, self._database, self._session).prune(
            all_unused=all_unused, cache=cache, until=until
        )
        if not cache:
            return report
        from dataclasses import replace

        from images.cachemounts import CacheMounts

        freed = CacheMounts(self._root).prune(until)
        return replace(report, freed_bytes=report.freed_bytes + freed)

    def _resolve(self, text: str, *, lease: bool = True) -> tuple[Image, Reference | None]:
        """The image, and the name in the store that found it (None when an ID did)."""
        build = self._leased if lease else self._built
        hexadecimal = text.removeprefix("sha256:")
        if text.startswith("sha256:") and _MIN_PREFIX <= len(hexadecimal) <= 64 and _HEX.issuperset(hexadecimal):
            return build(self._by_prefix(hexadecimal, text)), None
        reference: Reference | None = None
        try:
            reference = Reference.parse(text).with_default_tag()
        except InvalidReferenceError:
            if not (_MIN_PREFIX <= len(text) <= 64 and _HEX.issuperset(text)):
                raise
        if reference is not None:
            row = self._by_name(reference)
            if row is not None:
                found = build(row)
                return found, reference if reference in found.names else None
        if _MIN_PREFIX <= len(text) <= 64 and _HEX.issuperset(text):
            return build(self._by_prefix(text, text)), None
        raise self._not_found(text)

    def _by_name(self, name: Reference) -> tuple[Any, ...] | None:
        row = self._database.one(
            "SELECT i.id, i.manifest_digest, i.created_at, i.size FROM images i JOIN names n ON n.image_id = i.id"
            " WHERE n.name = ?",
            (str(name),),
        )
        if row is None and name.digest is not None and name.tag is not None:
            return self._by_name(name._replace(tag=None))  # the digest says it all
        if row is None and name.digest is not None:
            rows = self._database.all(
                "SELECT i.id, i.manifest_digest, i.created_at, i.size, n.name FROM images i"
                " JOIN names n ON n.image_id = i.id WHERE i.manifest_digest = ? OR i.id = ?",
                (name.digest, name.digest),
            )
            row = next((found[:4] for found in rows if Reference.parse(found[4]).name == name.name), None)
        return None if row is None else tuple(row)

    def _by_prefix(self, digits: str, text: str) -> tuple[Any, ...]:
        low = f"sha256:{digits}"
        rows = self._database.all(_SELECT + "WHERE id >= ? AND id < ? LIMIT 5", (low, low + "g"))
        if not rows and len(digits) == 64:
            rows = self._database.all(_SELECT + "WHERE manifest_digest = ? LIMIT 1", (low,))
        if not rows:
            raise self._not_found(text)
        if len(rows) > 1:
            raise AmbiguousImageError(
                f"{text!r} fits several images: " + ", ".join(Digest(row[0]).short for row in rows),
                hint="give more digits of the ID",
            )
        return tuple(rows[0])

    def _leased(self, row: Sequence[Any]) -> Image:
        layers = self._layers(row[0])
        self._blobs.lease([Digest(row[0]), Digest(row[1]), *layers])
        if self._database.one("SELECT 1 FROM images WHERE id = ?", (row[0],)) is None:
            raise ImageNotFoundError(f"image {Digest(row[0]).short} was removed a moment ago")
        return self._built(row)

    def _built(self, row: Sequence[Any]) -> Image:
        config = self._config(Digest(row[0]))
        if config is None:
            raise ImageNotFoundError(f"image {Digest(row[0]).short} was removed a moment ago")
        names = [name for (name,) in self._database.all("SELECT name FROM names WHERE image_id = ?", (row[0],))]
        return _image(row, config, self._layers(row[0]), sorted(names))

    def _config(self, image_id: Digest) -> ImageConfig | None:
        try:
            with open(self._root / "blobs" / "sha256" / image_id.hex, "rb") as file:
                return decode_config(file.read())
        except FileNotFoundError:
            return None

    def _layers(self, image_id: str) -> _DiffIDs:
        rows = self._database.all("SELECT diff_id FROM image_layers WHERE image_id = ? ORDER BY position", (image_id,))
        return [DiffID(diff_id) for (diff_id,) in rows]

    def _not_found(self, text: str) -> ImageNotFoundError:
        import difflib

        tags: dict[str, list[str]] = {}
        for (name,) in self._database.all("SELECT name FROM names ORDER BY name"):
            reference = Reference.parse(name)
            tags.setdefault(reference.familiar_name, []).append(reference.familiar)
        bare = text.partition("@")[0]
        repository = bare.rpartition(":")[0] if ":" in bare.rpartition("/")[2] else bare
        near = [name for close in difflib.get_close_matches(repository, tags) for name in tags[close]]
        hint = "did you mean " + " or ".join(near[:3]) + "?" if near else "shiplap image ls shows the images there are"
        return ImageNotFoundError(f"no such image: {text}", hint=hint)


def _own_manifest(config: bytes, layers: Sequence[DiffID], sizes: Sequence[int]) -> bytes:
    """A manifest that names the layers as they are in the store: uncompressed."""
    descriptors = [
        Descriptor(media_type=OCI_LAYER, digest=Digest(diff_id), size=size)
        for diff_id, size in zip(layers, sizes, strict=True)
    ]
    return encode(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=Descriptor(media_type=OCI_CONFIG, digest=Digest.of(config), size=len(config)),
            layers=tuple(descriptors),
        )
    )


def _check_manifest(data: bytes, image_id: Digest, layers: int) -> None:
    manifest = decode_manifest(data)
    if manifest.config.digest != image_id or len(manifest.layers) != layers:
        raise InvalidManifestError(
            f"the manifest is of image {manifest.config.digest} with {len(manifest.layers)} layers,"
            f" expected {image_id} with {layers}"
        )


def _image(row: Sequence[Any], config: ImageConfig, diff_ids: Iterable[str], names: Iterable[str]) -> Image:
    return Image(
        id=Digest(row[0]),
        manifest_digest=Digest(row[1]),
        config=config,
        diff_ids=tuple(DiffID(diff_id) for diff_id in diff_ids),
        names=tuple(Reference.parse(name) for name in names),
        created_at=row[2],
        size_bytes=row[3],
    )


def _grouped(rows: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, value in rows:
        groups.setdefault(key, []).append(value)
    return groups
