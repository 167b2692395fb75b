"""The interface of a place for caches: what directories and registries have in common."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

import msgspec

from builder.cacheio.document import MAX_RECORDS_BYTES, decode_records, inline_records, is_cache, layers_of
from builder.errors import CacheFormatError
from builder.request.cache import CacheFrom, CacheTo
from core.digests import DiffID
from images.oci import CONFIG_TYPES, Descriptor, decode_config, decode_manifest
from images.records import CacheRecord


class CacheContents(msgspec.Struct, frozen=True):
    """A cache elsewhere: its records, and where in it the layers are."""

    records: list[CacheRecord]
    layers: dict[DiffID, Descriptor]


class LayerStream(Protocol):
    """A layer's blob while it is read. The reader checks its digest."""

    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class CacheSource(Protocol):
    """Where a cache is read from. Methods raise CacheFormatError, OSError, and RegistryErrors."""

    def __str__(self) -> str: ...
    def read(self) -> CacheContents: ...
    def open_layer(self, layer: Descriptor, moved: Callable[[int], None]) -> LayerStream: ...


class CacheDirectories(Protocol):
    """What ``type=local`` names: directories of this host, unless a build is told of others."""

    def source(self, origin: CacheFrom) -> CacheSource: ...
    def target(self, wanted: CacheTo) -> AbstractContextManager[CacheTarget]: ...


class CacheTarget(Protocol):
    """Where a cache is written to. Methods raise OSError, StorageFullError and RegistryErrors."""

    def __str__(self) -> str: ...

    def send(self, blob: Descriptor, open_blob: Callable[[], BinaryIO] | None, moved: Callable[[int], None]) -> bool:
        """Make sure that the place has the blob. Returns False when it is neither here nor there.

        open_blob: None where the blob is not here.
        """
        ...

    def is_current(self, manifest: bytes) -> bool:
        """Whether the name already stands for exactly this manifest."""
        ...

    def finish(self, manifest: bytes) -> None:
        """Give the manifest its name. All of its blobs have been sent."""
        ...


def contents_of(manifest_bytes: bytes, read_config: Callable[[Descriptor], bytes]) -> CacheContents:
    """The cache in a manifest: a cache's own, or the inline cache of an image. Raises CacheFormatError."""
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
