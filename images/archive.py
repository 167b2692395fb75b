"""Images in files: archives that docker, podman, skopeo and we write and read (reading is in unarchive.py).

An archive is a tar of an OCI image layout that carries docker's ``manifest.json`` and ``repositories`` too, so that
every tool finds what it knows. ``save`` streams: nothing but small documents is held in memory, and a layer that
several images share is written once. The same images give the same bytes.

    oci-layout  index.json  manifest.json  repositories  blobs/sha256/<hex>…

Specs: image-spec image-layout.md; moby/moby image/spec/v1.2.md (``manifest.json``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from core.digests import DiffID, Digest
from core.references import Reference
from images.errors import InvalidArchiveError, InvalidLayerError
from images.indexes import StoredIndex
from images.layout import DirectoryTarget, Root, Target, TarTarget, write_layout
from images.oci import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    History,
    ImageConfig,
    Manifest,
    OciPlatform,
    decode_manifest,
    encode,
)
from images.store import Store
from images.summary import Image
from images.tarheaders import normalise
from images.tarreader import TarReader
from images.tarwriter import SupportsRead, SupportsWrite
from images.unarchive import load

__all__ = ["LayerCompression", "SavedImage", "import_rootfs", "load", "save", "save_directory"]

_CHUNK = 1024 * 1024

LayerCompression = Literal["none", "gzip", "zstd"]


class SavedImage(NamedTuple):
    """An image, or a whole index, and the names that it is to have in the archive (those with a tag; none is fine)."""

    image: Image | StoredIndex
    names: tuple[Reference, ...] = ()


def save(
    store: Store, images: Sequence[SavedImage], sink: SupportsWrite, *, compression: LayerCompression = "none"
) -> None:
    """Write an archive to ``sink``, which is not closed.

    compression: of the layers; "none" is what docker save does. An index is written as it is.
    Raises MissingBlobError, and what the sink raises.
    """
    with TarTarget(sink) as target:
        _save(store, images, target, compression)


def save_directory(
    store: Store, images: Sequence[SavedImage], directory: Path, *, compression: LayerCompression = "none"
) -> None:
    """Write the same files into ``directory`` (made if missing), the index last.

    Blobs that are there already stay; an index that is there is replaced. Raises MissingBlobError, StorageFullError.
    """
    _save(store, images, DirectoryTarget(directory), compression)


def import_rootfs(
    store: Store, stream: SupportsRead, config: ImageConfig, names: Iterable[Reference] = (), *, source: str = "-"
) -> Image:
    """Make an image of one layer from a root filesystem's tar, plain or compressed.

    config: as the image is to have it. The layer's diff ID is filled in; a config without history gets one entry, which
    names ``source``. Raises InvalidArchiveError when the stream is no tar or is damaged.
    """
    from images.compression import DecompressingReader

    with store.layers.writer(sync=False) as layer:
        tee = _Tee(DecompressingReader(stream), layer)
        reader = TarReader(tee)
        try:
            entries = sum(bool(normalise(entry.name)) for entry in reader)
        except InvalidLayerError as error:
            raise InvalidArchiveError(
                f"cannot import {source}: {error.message}", hint="a tar of a root filesystem is expected"
            ) from error
        if not entries:
            raise InvalidArchiveError(f"cannot import {source}: it has no files")
        reader.drain()
        diff_id = layer.commit()
    if not config.history:
        history = (History(created=config.created, comment=f"Imported from {source}"),)
        config = msgspec.structs.replace(config, history=history)
    image = store.images.put(config, [diff_id])
    for name in names:
        store.images.tag(name, image.id)
    return store.images.get(image.id)


class _Tee:
    """Passes on what is read, and writes it down."""

    def __init__(self, stream: SupportsRead, sink: SupportsWrite) -> None:
        self._stream = stream
        self._sink = sink

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._sink.write(data)
        return data


def _save(store: Store, images: Sequence[SavedImage], target: Target, compression: LayerCompression) -> None:
    roots = []
    for saved in images:
        if isinstance(saved.image, StoredIndex):
            roots.append(Root(_described_index(store, saved.image), saved.names))
        else:
            roots.append(Root(_described_image(store, saved.image, compression), saved.names))
    write_layout(store, roots, target)


def _described_image(store: Store, image: Image, compression: LayerCompression) -> Descriptor:
    """The image's manifest; or one whose layers are as they were asked for, or as they are here."""
    data = store.blobs.read_checked(image.manifest_digest)
    manifest = decode_manifest(data)
    if compression != "none" or store.blobs.missing(layer.digest for layer in manifest.layers):
        config = msgspec.structs.replace(manifest.config, media_type=OCI_CONFIG)
        layers = tuple(_layer(store, diff_id, compression) for diff_id in image.diff_ids)
        manifest = Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=layers)
        data = encode(manifest)
    return Descriptor(
        media_type=manifest.media_type or OCI_MANIFEST,
        digest=store.blobs.put(data, sync=False),
        size=len(data),
        platform=OciPlatform.of(image.config.platform),
    )


def _described_index(store: Store, index: StoredIndex) -> Descriptor:
    """The index as it is: its manifests name the layers, so no compression can be asked for."""
    store.layers.fetch(diff_id for image in index.images for diff_id in image.diff_ids)
    return Descriptor(media_type=index.document.media_type or OCI_INDEX, digest=index.digest, size=len(index.data))


def _layer(store: Store, diff_id: DiffID, compression: LayerCompression) -> Descriptor:
    if compression != "none":
        return store.layers.compressed(diff_id, compression)
    return Descriptor(media_type=OCI_LAYER, digest=Digest(diff_id), size=store.layers.size(diff_id))
