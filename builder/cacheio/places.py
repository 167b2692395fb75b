"""What the two kinds of places, directories and registries, have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Protocol

import msgspec

from builder.cacheio.document import MAX_RECORDS_BYTES, decode_records, inline_records, is_cache, layers_of
from builder.errors import CacheFormatError
from core.digests import DiffID
from images.oci import CONFIG_TYPES, Descriptor, decode_config, decode_manifest
from images.records import CacheRecord


class CacheContents(msgspec.Struct, frozen=True):
    """A cache elsewhere: its records, and where in it the layers are."""

    records: list[CacheRecord]
    layers: dict[DiffID, Descriptor]


class LayerStream(Protocol):
    """A layer's blob on its way; whoever reads it checks its digest."""

    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class CacheSource(Protocol):
    """Where a cache is read from. Methods raise CacheFormatError, OSError, and RegistryErrors."""

    def __str__(self) -> str: ...
    def read(self) -> CacheContents: ...
    def open_layer(self, layer: Descriptor, moved: Callable[[int], None]) -> LayerStream: ...


class CacheTarget(Protocol):
    """Where a cache is written to. Methods raise OSError, StorageFullError and RegistryErrors."""

    def __str__(self) -> str: ...

    def send(self, blob: Descriptor, open_blob: Callable[[], BinaryIO] | None, moved: Callable[[int], None]) -> bool:
        """Make the place have the blob. open_blob: None where it is not at hand. False: it is missing, there too."""
        ...

    def is_current(self, manifest: bytes) -> bool:
        """Whether this very manifest is what the name stands for already."""
        ...

    def finish(self, manifest: bytes) -> None:
        """Give the manifest, all of whose blobs are there, its name."""
        ...


def contents_of(manifest_bytes: bytes, read_config: Callable[[Descriptor], bytes]) -> CacheContents:
    """The cache that a manifest is, or that the image has whose manifest it is. Raises CacheFormatError."""
    manifest = decode_manifest(manifest_bytes)
    if manifest.config.size > MAX_RECORDS_BYTES:
        raise CacheFormatError(f"its config is stated to have {manifest.config.size} bytes")
    if is_cache(manifest):
        return CacheContents(decode_records(read_config(manifest.config)), layers_of(manifest))
    if manifest.config.media_type not in CONFIG_TYPES:
        kind = manifest.artifact_type or manifest.config.media_type
        raise CacheFormatError(f"it is neither a cache nor an image, but {kind[:100]}")
    config = decode_config(read_config(manifest.config))
    records = inline_records(config)
    if records is None:
        raise CacheFormatError("it is an image without a cache", hint="build it with --cache-to type=inline")
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise CacheFormatError("the image's config and manifest contradict each other")
    return CacheContents(records, dict(zip(config.rootfs.diff_ids, manifest.layers, strict=True)))
