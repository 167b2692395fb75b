"""Content on its way from a registry into the store: layers, now or when they are needed, and artifacts as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol, TypeVar

import msgspec

from core.digests import DiffID
from core.references import Reference
from images.layers import Origin
from images.oci import (
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_ZSTD,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    Descriptor,
    decode_manifest,
)
from images.store import Store
from registry.client.monitor import LayerReporter
from registry.client.repository import BlobReader, RawManifest, Repository
from registry.errors import NotFoundError, RegistryError, TransferCancelledError

_CHUNK_BYTES: Final = 1 << 20
# Where a manifest of ours names a registry's blob, it has the types of OCI.
_OCI_TYPES: Final = {DOCKER_LAYER: OCI_LAYER, DOCKER_LAYER_GZIP: OCI_LAYER_GZIP, DOCKER_LAYER_ZSTD: OCI_LAYER_ZSTD}
_KEPT_TYPES: Final = frozenset({OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD})

_T = TypeVar("_T")


class From(Protocol):
    """Does something with the repository that has a blob; tries the next one where it fails."""

    def __call__(self, get: Callable[[Repository], _T], /) -> _T: ...


def import_layer(
    store: Store,
    diff_id: DiffID,
    layer: Descriptor,
    registry: str,
    has_it: From,
    reporter: LayerReporter,
    *,
    keep: bool = True,
) -> None:
    """Download the layer, unless it is here: that an image says so of some blob is not enough.

    The blob has to be one that was found to be the layer. If a build does not hold the layer, the registry
    (``Reference.domain``) decides whether it may have it. If the store had the blob from that registry before, the
    registry is only asked; else it has to send the blob.
    keep: keep the blob, too. If not, the store has to know an Origin that names it.
    Raises RegistryErrors and ImagesErrors.
    """
    holdings = store.holdings
    with store.layers.fetching(diff_id) as here:
        if (here and holdings.is_pair(layer.digest, diff_id)) or _is_confirmed(store, diff_id, layer, registry, has_it):
            reporter.state("Already exists", current_bytes=layer.size)
            return
        reporter.state("Downloading")
        source = has_it(lambda place: _open(place, layer, reporter))
        try:
            expected = layer if layer.digest.algorithm == "sha256" else None  # the reader checks others
            # An image makes its layers durable, all at once; a power loss before takes what can be had again.
            store.layers.import_compressed(source, diff_id=diff_id, expected=expected, sync=False, keep=keep)
        finally:
            source.close()
        holdings.note_pair(layer.digest, diff_id, registry)
        holdings.hold(diff_id)
    reporter.state("Pull complete", current_bytes=layer.size)


def bring_blob_back(store: Store, blob: Descriptor, has_it: From, reporter: LayerReporter) -> None:
    """Download a blob that the store had, without unpacking it. Raises RegistryErrors and DigestMismatchError."""
    reporter.state("Downloading")
    source = has_it(lambda place: _open(place, blob, reporter))
    try:
        with store.blobs.writer(sync=False, cached=False) as writer:
            while data := source.read(_CHUNK_BYTES):
                writer.write(data)
            writer.commit(blob.digest)
    finally:
        source.close()


def _is_confirmed(store: Store, diff_id: DiffID, layer: Descriptor, registry: str, has_it: From) -> bool:
    """Whether this build may have the layer, which is here for others: its registry shows the build the blob."""
    if not store.holdings.is_pair_of(layer.digest, diff_id, registry) or not store.layers.is_stored(diff_id):
        return False
    has_it(lambda place: place.check_blob(layer.digest))
    store.holdings.hold(diff_id)
    return True


def may_stay_away(layer: Descriptor) -> bool:
    """Whether an Origin says enough of the layer to ask for it again."""
    known = _OCI_TYPES.get(layer.media_type, layer.media_type) in _KEPT_TYPES
    return known and not layer.urls and layer.digest.algorithm == "sha256"


def note_origins(store: Store, reference: Reference, layers: Mapping[DiffID, Descriptor]) -> None:
    """Note that the reference's repository has these layers: images may have them before the store does."""
    if layers:
        store.layers.note_origins(Origin(diff_id, _as_oci(layer), reference.name) for diff_id, layer in layers.items())


def fetch_artifact(store: Store, raw: RawManifest, has_it: From) -> None:
    """Put a manifest that is no image's, and all that it names, into the store as blobs."""
    manifest = decode_manifest(raw.data)
    for blob in (manifest.config, *manifest.layers):
        if blob.urls or store.blobs.has(blob.digest):
            continue
        source = has_it(partial(_open_quietly, blob))
        try:
            with store.blobs.writer(sync=False) as writer:
                while data := source.read(_CHUNK_BYTES):
                    writer.write(data)
                writer.commit(blob.digest)
        finally:
            source.close()
    store.blobs.put(raw.data, sync=False)


def _open(place: Repository, layer: Descriptor, reporter: LayerReporter) -> BlobReader:
    def moved(current_bytes: int) -> None:
        reporter.moved("Downloading", current_bytes)

    try:
        return place.open_blob(layer, moved)
    except NotFoundError:
        for url in layer.urls:  # a foreign layer: its registry need not have it
            try:
                return place.open_foreign(url, layer, moved)
            except TransferCancelledError:
                raise
            except RegistryError:
                continue
        raise


def _as_oci(layer: Descriptor) -> Descriptor:
    return msgspec.structs.replace(layer, media_type=_OCI_TYPES.get(layer.media_type, layer.media_type))


def _open_quietly(blob: Descriptor, place: Repository) -> BlobReader:
    return place.open_blob(blob, _ignore)


def _ignore(current_bytes: int) -> None:
    del current_bytes
