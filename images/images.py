"""Images: a config, a manifest, layers, and any number of names."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from core.digests import DiffID, Digest
from core.platforms import Platform
from core.references import Reference
from images.blobs import BlobStore
from images.database import Database
from images.errors import (
    ImageInUseError,
    ImageNotFoundError,
    InvalidConfigError,
    InvalidManifestError,
)
from images.holdings import Holdings
from images.indexes import IndexStore, set_name
from images.layers import LayerStore
from images.lookup import Lookup, Target
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
from images.summary import Image

if TYPE_CHECKING:
    from images.collect import PruneReport

_SELECT: Final = (
    "SELECT id, manifest_digest, created_at, given, (SELECT coalesce(sum(size), 0) FROM image_layers"
    " JOIN layers USING (diff_id) WHERE image_id = images.id) FROM images "
)


_OF_A_CONTAINER: Final = "remove the container first, or take only the image's names away with --force"


class HistoryEntry(NamedTuple):
    """One line of ``image history``. diff_id is None, and size_bytes 0, for a change of metadata."""

    entry: History
    diff_id: DiffID | None
    size_bytes: int


_Images: TypeAlias = list[Image]  # within the class, "list" is the method
_History: TypeAlias = list[HistoryEntry]
_Lines: TypeAlias = list[str]
_DiffIDs: TypeAlias = list[DiffID]
_References: TypeAlias = list[Reference]


class ImageStore:
    """Images by ID and by name. What is put, found or resolved stays, layers and all, while the session lasts."""

    def __init__(
        self, root: Path, database: Database, session: Session, blobs: BlobStore, layers: LayerStore, holdings: Holdings
    ) -> None:
        self._root = root
        self._holdings = holdings
        self._database = database
        self._session = session
        self._blobs = blobs
        self._layer_store = layers
        self._lookup = Lookup(database)
        self.indexes = IndexStore(database, blobs, holdings, self.get)

    def put(
        self,
        config: ImageConfig | bytes,
        diff_ids: Sequence[DiffID],
        *,
        names: Iterable[Reference] = (),
        manifest: bytes | None = None,
    ) -> Image:
        """Make an image of layers that are in the store, or are known to be at a registry; durable when it returns.

        names: given to it in the same transaction, as by ``tag``.
        config: bytes are kept as they are, so that the ID stays; a config without ``rootfs.diff_ids`` gets them here.
        manifest: the one that the image came with, kept as it is, so that its digest stays; its layers may be named by
        digests of compressed blobs that are not here. Without it, one that names the uncompressed layers is made,
        unless the image is in the store already.
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
        away = set(self._blobs.missing(layers))
        descriptors = [self._described(diff_id, away=diff_id in away) for diff_id in layers]
        document = config if isinstance(config, bytes) else encode(decoded)
        image_id = self._blobs.put(document, sync=False)
        if manifest is not None:
            _check_manifest(manifest, image_id, len(layers))
        manifest_digest = self._blobs.put(manifest or _own_manifest(document, descriptors), sync=False)
        here = {diff_id: self._blobs.size(diff_id) for diff_id in layers if diff_id not in away}
        self._blobs.make_durable((image_id, manifest_digest, *here))
        with self._database.transaction(durable=True) as connection:
            connection.execute(
                "INSERT OR IGNORE INTO images (id, manifest_digest, created_at, given) VALUES (?, ?, ?, 0)",
                (image_id, manifest_digest, time.time()),
            )
            if manifest is not None:
                connection.execute(
                    "UPDATE images SET manifest_digest = ?, given = 1 WHERE id = ?", (manifest_digest, image_id)
                )
            connection.executemany(
                "INSERT OR IGNORE INTO layers (diff_id, size, created_at) VALUES (?, ?, ?)",
                [(diff_id, size, time.time()) for diff_id, size in here.items()],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO image_layers VALUES (?, ?, ?)",
                [(image_id, position, diff_id) for position, diff_id in enumerate(layers)],
            )
            for name in names:
                set_name(connection, name, image_id, None, self._holdings.domain)
        return self.get(image_id)

    def get(self, image_id: Digest) -> Image:
        """The image with exactly this ID. Raises ImageNotFoundError."""
        row = self._database.one(_SELECT + "WHERE id = ?", (image_id,))
        if row is None:
            raise ImageNotFoundError(f"no image has the ID {image_id}")
        return self._leased(row)

    def find(self, reference: Reference) -> Image | None:
        """The image of this name (``latest`` unless tagged), or with ``@digest`` the one that it pins; or None."""
        target = self._lookup.by_name(reference)
        return None if target is None else self.get(target.image_id)

    def resolve(self, text: str, platform: Platform | None = None) -> Image:
        """What a user means: a name, ``sha256:ID``, or the first digits (at least 4) of an ID.

        platform: which image of an index; None is this host's, or the first where there is none. An image that is no
        index's is taken as it is.
        Raises ImageNotFoundError (with similar names as the hint), AmbiguousImageError, InvalidReferenceError.
        """
        return self._chosen(self._lookup.by_text(text), platform)

    def given(self, name: Reference, platform: Platform | None = None) -> Image | None:
        """The image that the host's administrator gave this name; a service's builds know no other names here.

        platform: as for ``resolve``. Its layers are here for this session.
        """
        target = self._lookup.given(name)
        if target is None:
            return None
        image = self._chosen(target, platform)
        self._holdings.admit(image.diff_ids)
        return image

    def resolve_base(self, text: str, platform: Platform | None = None) -> Image:
        """As ``resolve``, for the host's own builds: names that runs gave do not count."""
        return self._chosen(self._lookup.of_base(text), platform)

    def _chosen(self, target: Target, platform: Platform | None) -> Image:
        if target.index_digest is not None and (platform is not None or target.name is None):
            return self.get(self.indexes.choose(target.index_digest, platform))
        return self.get(target.image_id)

    def list(self) -> _Images:
        """All images, newest first. Leases nothing: what is listed may be gone a moment later."""
        rows = self._database.all(_SELECT + "ORDER BY created_at DESC, id")
        names = _grouped(self._database.all("SELECT image_id, name FROM image_names ORDER BY name"))
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
            "SELECT i.diff_id, coalesce(l.size, 0) FROM image_layers i LEFT JOIN layers l ON l.diff_id = i.diff_id"
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

    def tag(self, name: Reference, target: Digest) -> None:
        """Give an image, or an index, this name (``latest`` unless tagged); one that another has moves. Durable.

        target: the image's ID, or the index's digest. Raises ImageNotFoundError.
        """
        with self._database.transaction(durable=True) as connection:
            if connection.execute("SELECT 1 FROM images WHERE id = ?", (target,)).fetchone() is not None:
                set_name(connection, name, target, None, self._holdings.domain)
                return
        self.indexes.put(self.indexes.get(target).data, names=(name,))

    def untag(self, name: Reference) -> None:
        """Take the name away; what it named stays. Raises ImageNotFoundError."""
        with self._database.transaction(durable=True) as connection:
            cursor = connection.execute("DELETE FROM names WHERE name = ?", (str(name.with_default_tag()),))
            if cursor.rowcount == 0:
                raise self._lookup.not_found(name.familiar)

    def note_digest(self, name: Reference, digest: Digest, image: Digest) -> None:
        """Note that a registry calls the image ``name@digest``, by its manifest or an index, for ``resolve``."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO repo_digests VALUES (?, ?, ?)", (name.name, digest, image))

    def digests(self, image: Digest) -> _References:
        """What registries call the image: ``NAME@DIGEST``, without tags, sorted."""
        rows = self._database.all("SELECT name, digest FROM repo_digests WHERE image_id = ? ORDER BY 1, 2", (image,))
        return [Reference.parse(f"{name}@{digest}") for name, digest in rows]

    def remove(self, text: str, *, force: bool = False) -> _Lines:
        """Remove a name, and with its last one the image, or the index with the images that only it has.

        Returns what ``docker image rm`` would print. Given an ID or digest: removes it with its names; more than one
        needs ``force``. Layers that other images, the build cache or a living session (this one too) use stay. An image
        that another session uses stays too, without names. So does, with ``force``, one that a container is of. A prune
        takes them later. Raises ImageInUseError (also for an image of an index), and what ``resolve`` raises.
        """
        from images.collect import Collector

        target = self._lookup.by_text(text)
        names = self._names_of(target)
        if target.name is not None and len(names) > 1:
            self.untag(target.name)
            return [f"Untagged: {target.name.familiar}"]
        if len(names) > 1 and not force:
            called = (target.index_digest or target.image_id).short
            raise ImageInUseError(
                f"{'index' if target.index_digest else 'image'} {called} has several names: {', '.join(names)}",
                hint="remove names one by one, or all with --force",
            )
        if not force:
            self._refuse_of_containers(target)
        collector = Collector(self._root, self._database, self._session)
        if target.index_digest is not None:
            return collector.remove_index(target.index_digest).lines
        indexes = self._database.all(
            "SELECT DISTINCT index_digest FROM index_entries WHERE image_id = ?", (target.image_id,)
        )
        if indexes and target.name is not None:
            self.untag(target.name)
            return [f"Untagged: {target.name.familiar}"]
        if indexes:
            raise ImageInUseError(
                f"image {target.image_id.short} belongs to index {Digest(indexes[0][0]).short}",
                hint="remove the index, by its name",
            )
        return collector.remove_images([target.image_id]).lines

    def prune(
        self,
        *,
        all_unused: bool = False,
        cache: bool = False,
        until: float | None = None,
        among: Collection[str] | None = None,
    ) -> PruneReport:
        """Remove images without a name, and everything that nothing refers to.

        Of layers that steps left, what was written goes where the layer's tar can be mounted instead of it.

        all_unused: named images that no living process uses too.
        cache: the build cache, its mounts and mirrors of repositories, too.
        until: only what was made (cache: last used) before this time, in seconds since the epoch.
        among: of the images only those with these IDs, and indexes of none but them; None: all.
        """
        from images.collect import Collector
        from images.erofs import works

        report = Collector(self._root, self._database, self._session).prune(
            all_unused=all_unused, cache=cache, until=until, indexed=works(self._session.new_path()), among=among
        )
        if not cache:
            return report
        from dataclasses import replace

        from images.cachemounts import CacheMounts
        from images.mirrors import Mirrors

        freed = CacheMounts(self._root).prune(until) + Mirrors(self._root).prune(until)
        return replace(report, freed_bytes=report.freed_bytes + freed)

    def _refuse_of_containers(self, target: Target) -> None:
        """Raise ImageInUseError, in docker's words, where a container is of the image or of one of the index."""
        row = self._database.one(
            "SELECT holder, object FROM container_pins WHERE object = ? OR object IN"
            " (SELECT image_id FROM index_entries WHERE index_digest = ?) ORDER BY holder LIMIT 1",
            (target.image_id, target.index_digest),
        )
        if row is None:
            return
        holder, image = row[0][:12], Digest(row[1]).short
        if target.name is not None:
            what = f'unable to remove repository reference "{target.name.familiar}" (must force) - container {holder}'
            raise ImageInUseError(f"conflict: {what} is using its referenced image {image}", hint=_OF_A_CONTAINER)
        what = f"unable to delete {image} (must be forced) - image is being used by container {holder}"
        raise ImageInUseError(f"conflict: {what}", hint=_OF_A_CONTAINER)

    def _names_of(self, target: Target) -> _Lines:
        if target.index_digest is not None:
            rows = self._database.all(
                "SELECT name FROM names WHERE index_digest = ? ORDER BY name", (target.index_digest,)
            )
        else:
            rows = self._database.all(
                "SELECT name FROM names WHERE index_digest IS NULL AND image_id = ? ORDER BY name", (target.image_id,)
            )
        return [Reference.parse(name).familiar for (name,) in rows]

    def _described(self, diff_id: DiffID, *, away: bool) -> Descriptor:
        """How a manifest made here names the layer: uncompressed, or, when it is not here, as the registry has it."""
        if not away:
            return Descriptor(media_type=OCI_LAYER, digest=Digest(diff_id), size=self._blobs.size(diff_id))
        origin = self._layer_store.origin(diff_id)
        if origin is None:
            raise self._blobs.absent(diff_id, "layer")
        return origin.blob

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
        names = [name for (name,) in self._database.all("SELECT name FROM image_names WHERE image_id = ?", (row[0],))]
        return _image(row, config, self._layers(row[0]), sorted(names))

    def _config(self, image_id: Digest) -> ImageConfig | None:
        try:
            with open(f"{self._root}/blobs/sha256/{image_id.hex}", "rb") as file:  # Path takes as long again
                return decode_config(file.read())
        except FileNotFoundError:
            return None
        except InvalidConfigError as error:  # it could be read when it was put
            raise self._blobs.note_damaged(image_id) from error

    def _layers(self, image_id: str) -> _DiffIDs:
        rows = self._database.all("SELECT diff_id FROM image_layers WHERE image_id = ? ORDER BY position", (image_id,))
        return [DiffID(diff_id) for (diff_id,) in rows]


def _own_manifest(config: bytes, layers: Sequence[Descriptor]) -> bytes:
    return encode(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=Descriptor(media_type=OCI_CONFIG, digest=Digest.of(config), size=len(config)),
            layers=tuple(layers),
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
        size_bytes=row[4],
        manifest_is_given=bool(row[3]),
    )


def _grouped(rows: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, value in rows:
        groups.setdefault(key, []).append(value)
    return groups
