"""Manifests as registries get them: of compressed layers, where the store's own name the uncompressed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from core.digests import DiffID
from images.layers import Compression
from images.oci import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest, OciPlatform, encode
from images.originals import left
from images.store import Store
from images.summary import Image

if TYPE_CHECKING:
    from images.growing import Growing


def pack(
    store: Store,
    image: Image,
    compression: Compression = "gzip",
    *,
    level: int | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """Make a manifest of the image for an index, as a blob; returns its descriptor, with the platform.

    Each layer is compressed once and remembered; one that is away is named as its registry has it. level: as for
    ``LayerStore.compressed``. annotations: of the manifest. The manifest's digest is settled from here on: other
    documents may name it, and ``store.images.indexes.put`` keeps it. Raises MissingBlobError.
    """
    manifest = packed_manifest(store, image, compression, level=level)
    if annotations:
        manifest = msgspec.structs.replace(manifest, annotations=dict(annotations))
    data = encode(manifest)
    return Descriptor(
        media_type=OCI_MANIFEST,
        digest=store.blobs.put(data),
        size=len(data),
        platform=OciPlatform.of(image.config.platform),
    )


def packed_manifest(store: Store, image: Image, compression: Compression, *, level: int | None = None) -> Manifest:
    """The manifest that ``pack`` writes, without annotations."""
    layers = {diff_id: packed_layer(store, diff_id, compression, level=level) for diff_id in set(image.diff_ids)}
    return Manifest(
        schema_version=2,
        media_type=OCI_MANIFEST,
        config=Descriptor(media_type=OCI_CONFIG, digest=image.id, size=store.blobs.size(image.id)),
        layers=tuple(layers[diff_id] for diff_id in image.diff_ids),
    )


def packed_layer(
    store: Store,
    diff_id: DiffID,
    compression: Compression,
    *,
    level: int | None = None,
    begun: Callable[[Growing], None] | None = None,
) -> Descriptor:
    """The layer's blob for registries. begun: as for ``LayerStore.compressed``. Raises MissingBlobError."""
    if not store.layers.has(diff_id):
        origin = store.layers.origin(diff_id)
        if origin is not None:
            return origin.blob
    came_as = left(store, diff_id, compression) if level is None else None
    if came_as is not None:
        return came_as
    return store.layers.compressed(diff_id, compression, level, begun=begun)
