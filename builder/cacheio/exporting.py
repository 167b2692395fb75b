"""Writing the records and layers of a build to where ``--cache-to`` says."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from builder.cacheio.buildcache import BuildCache
from builder.cacheio.document import cache_manifest, config_descriptor, encode_records
from builder.cacheio.places import CacheTarget
from builder.request.cache import CacheTo
from core.digests import DiffID
from images.oci import OCI_LAYER, Descriptor
from images.store import Store

if TYPE_CHECKING:
    from images.records import CacheRecord


class OpenTarget(Protocol):
    """Opens what ``--cache-to`` names. Raises what the connection raises."""

    def __call__(self, target: CacheTo, /) -> AbstractContextManager[CacheTarget]: ...


def export_cache(
    wanted: CacheTo,
    open_target: OpenTarget,
    *,
    store: Store,
    cache: BuildCache,
    image_layers: Collection[DiffID],
    moved: Callable[[str, int, int], None],
) -> bool:
    """Write what this build has used and made. Returns whether anything had to be sent.

    image_layers: the layers of the image, which are all that ``mode=min`` writes.
    moved: called for a blob with the bytes sent so far, and their total.
    Raises CacheExportError, StorageFullError, RegistryErrors.
    """
    records = sorted(cache.used())
    if not records:
        return False
    keep = None if wanted.mode == "max" else image_layers
    diff_ids = [
        diff_id for diff_id in _layers_of(records) if (keep is None or diff_id in keep) and cache.has_layer(diff_id)
    ]
    layers = {diff_id: _Layer(store, cache, wanted, diff_id) for diff_id in diff_ids}
    with open_target(wanted) as target:
        config = encode_records(records)
        manifest = cache_manifest(config, _descriptors(layers))
        if target.is_current(manifest):
            return False
        for layer in layers.values():
            layer.send(target, moved)
        manifest = cache_manifest(config, _descriptors(layers))  # a layer missing here may be another blob now
        target.send(config_descriptor(config), lambda: io.BytesIO(config), _ignore)
        target.finish(manifest)
    return True


class _Layer:
    """A layer to be sent: compressed here, or the unfetched blob in the cache that named the layer."""

    def __init__(self, store: Store, cache: BuildCache, wanted: CacheTo, diff_id: DiffID) -> None:
        self._store = store
        self._cache = cache
        self._wanted = wanted
        self._diff_id = diff_id
        here = store.layers.has(diff_id)
        there = None if here else cache.imported_layer(diff_id)
        self.descriptor = there or self._compressed()
        self._here = there is None

    def send(self, target: CacheTarget, moved: Callable[[str, int, int], None]) -> None:
        blob = self.descriptor
        if self._send(target, moved) or self._here:
            return
        self._cache.provide([self._diff_id])
        self._here = True
        if not self._store.blobs.has(blob.digest):
            self.descriptor = self._compressed()
        self._send(target, moved)

    def _send(self, target: CacheTarget, moved: Callable[[str, int, int], None]) -> bool:
        from registry.client.sending import refusals_of_damage

        blob = self.descriptor
        with refusals_of_damage(self._store, blob.digest):
            return target.send(
                blob,
                (lambda: self._store.blobs.open(blob.digest)) if self._here else None,
                lambda done: moved(f"layer {blob.digest.short}", done, blob.size),
            )

    def _compressed(self) -> Descriptor:
        if self._wanted.compression == "uncompressed":
            if not self._store.layers.has(self._diff_id):
                self._cache.provide([self._diff_id])
            size = self._store.layers.size(self._diff_id)
            return Descriptor(media_type=OCI_LAYER, digest=self._diff_id, size=size)
        return self._store.layers.compressed(self._diff_id, self._wanted.compression, self._wanted.level)


def _layers_of(records: Iterable[CacheRecord]) -> dict[DiffID, None]:
    return dict.fromkeys(record.diff_id for record in records if record.diff_id is not None)


def _descriptors(layers: Mapping[DiffID, _Layer]) -> dict[DiffID, Descriptor]:
    return {diff_id: layer.descriptor for diff_id, layer in layers.items()}


def _ignore(moved: int) -> None:
    del moved
