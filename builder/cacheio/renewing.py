"""Bringing a cache in a registry up to date after a build, with as little work as that takes.

The registry's present manifest says which layers the registry has. These are not compressed, sent or asked for. For any
other layer, the registry is asked whether it has the blob before one is made. When nothing is new, one request is all.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Final

import msgspec

from builder.cacheio.document import cache_manifest, config_descriptor, encode_records, is_cache, layers_of
from builder.cacheio.repository import RepositoryTarget
from builder.cacheio.used import UsedCache
from builder.errors import CacheFormatError
from core.cancellation import check
from core.digests import DiffID, Digest
from core.references import Reference
from images.errors import InvalidDocumentError
from images.oci import Descriptor, decode_manifest
from images.store import Store
from registry.client import Client
from registry.client.sending import refusals_of_damage
from registry.errors import ErrorCode, ResponseError

_INCOMPLETE: Final = (ErrorCode.MANIFEST_BLOB_UNKNOWN, ErrorCode.BLOB_UNKNOWN)


class _There(msgspec.Struct, frozen=True):
    """The cache that the name stands for now. config: the blob with its records; None where there is no cache."""

    config: Digest | None = None
    layers: Mapping[DiffID, Descriptor] = {}


def lease(store: Store, used: UsedCache) -> None:
    """Keep those layers that are still here from being pruned while the store is open."""
    for key in used.keys:
        store.cache.get(key)


def renew_cache(used: UsedCache, name: Reference, near: tuple[Reference, ...], *, client: Client, store: Store) -> bool:
    """Let ``name`` stand for what the build has used. Returns whether anything was sent.

    near: names of images from which the registry may mount layers.
    store: open, with the layers leased; layers that were pruned before that are left out.
    Raises RegistryErrors, MissingBlobError, StorageFullError, and what ``core.cancellation`` asks.
    """
    with RepositoryTarget(client, name, near) as target:
        there = _read(target)
        renewing = _Renewing(used, target, store)
        if there.config is not None and renewing.is_answered_by(there):
            return False
        try:
            renewing.write(there.layers)
        except ResponseError as error:
            if not there.layers or not error.has_code(*_INCOMPLETE):
                raise
            renewing.write({})  # somebody removed blobs below the manifest
    return True


class _Renewing:
    def __init__(self, used: UsedCache, target: RepositoryTarget, store: Store) -> None:
        self._used = used
        self._target = target
        self._store = store
        self._config = encode_records(used.records)
        self._diff_ids = list(dict.fromkeys(record.diff_id for record in used.records if record.diff_id is not None))

    def is_answered_by(self, there: _There) -> bool:
        if there.config != Digest.of(self._config):
            return False
        return all(diff_id in there.layers or not self._is_at_hand(diff_id) for diff_id in self._diff_ids)

    def write(self, known: Mapping[DiffID, Descriptor]) -> None:
        layers: dict[DiffID, Descriptor] = {}
        for diff_id in self._diff_ids:
            check()
            blob = known.get(diff_id) or self._sent(diff_id)
            if blob is not None:
                layers[diff_id] = blob
        self._target.send(config_descriptor(self._config), lambda: io.BytesIO(self._config), _ignore)
        self._target.finish(cache_manifest(self._config, layers))

    def _is_at_hand(self, diff_id: DiffID) -> bool:
        return diff_id in self._used.elsewhere or self._store.layers.has(diff_id)

    def _sent(self, diff_id: DiffID) -> Descriptor | None:
        """Make the registry have the layer's blob, and return it. None when neither side has the layer."""
        elsewhere = self._used.elsewhere.get(diff_id)
        if elsewhere is not None and self._target.send(elsewhere, None, _ignore):
            return elsewhere
        layers, blobs = self._store.layers, self._store.blobs
        if not layers.has(diff_id):
            return None
        made = layers.made_before(diff_id, "gzip")
        if made is not None and not blobs.has(made.digest) and self._target.send(made, None, _ignore):
            return made
        blob = layers.compressed(diff_id, "gzip")
        with refusals_of_damage(self._store, blob.digest):
            self._target.send(blob, lambda: blobs.open(blob.digest), _ignore)
        return blob


def _read(target: RepositoryTarget) -> _There:
    data = target.read()
    if data is None:
        return _There()
    try:
        manifest = decode_manifest(data)
        return _There(manifest.config.digest, layers_of(manifest)) if is_cache(manifest) else _There()
    except (InvalidDocumentError, CacheFormatError):
        return _There()  # it is written anew


def _ignore(moved: int) -> None:
    del moved
