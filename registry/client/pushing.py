"""Push: from an image in the store to a name at a registry.

An image that was pulled goes out with the manifest that it came with, so that its digest stays. Others get a manifest
of compressed layers: compressed once, remembered, and streamed from where the store keeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal, TypeVar

from core.digests import DiffID, Digest
from core.references import Reference
from images.images import Image
from images.oci import (
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    decode_manifest,
    encode,
)
from images.store import Store
from registry.client.client import Client
from registry.client.monitor import LayerReporter, NullTransferMonitor, TransferMonitor
from registry.client.pulling import PULLED_MANIFEST
from registry.client.repository import Repository
from registry.client.sources import remember_sources, sources_of
from registry.client.uploading import send_blob
from registry.client.workers import in_parallel
from registry.errors import UnsupportedContentError

_I = TypeVar("_I")
_R = TypeVar("_R")

DEFAULT_PARALLEL: Final = 4

Compression = Literal["gzip", "zstd"]


@dataclass(frozen=True, slots=True)
class Pushed:
    """The manifest at the registry: its digest and its size."""

    digest: Digest
    size_bytes: int


class _NotHereError(Exception):
    """A blob that the image's own manifest names is neither in the store nor at the registry."""


def push(
    reference: Reference,
    store: Store,
    *,
    client: Client,
    image: Image | None = None,
    compression: Compression | None = None,
    monitor: TransferMonitor | None = None,
    parallel: int = DEFAULT_PARALLEL,
) -> Pushed:
    """Send an image to the registry under its name (``latest`` unless the reference says otherwise).

    image: what to send; what the store has under this name when None. compression: of layers; None keeps an unchanged
    image as it came, and is gzip for others. Raises ImageNotFoundError and RegistryErrors.
    """
    name = reference.with_default_tag()
    if name.tag is None:
        raise UnsupportedContentError(f"{reference.familiar}: a push needs a tag", hint="write NAME:TAG")
    found = image or store.images.resolve(reference.familiar)
    job = _Push(name, store, client, found, monitor or NullTransferMonitor(), parallel)
    return job.run(compression)


class _Push:
    def __init__(
        self, name: Reference, store: Store, client: Client, image: Image, monitor: TransferMonitor, parallel: int
    ) -> None:
        self._name = name
        self._store = store
        self._client = client
        self._image = image
        self._monitor = monitor
        self._parallel = parallel
        self._repository = Repository(client, client.endpoints(name, mirrors=False)[0], name.path)

    def run(self, compression: Compression | None) -> Pushed:
        self._monitor.message(f"The push refers to repository [{self._name.name}]")
        data = self._store.blobs.read(self._image.manifest_digest)
        if compression is None and self._came_from_elsewhere(data):
            try:
                return self._push_as_it_came(data)
            except _NotHereError:
                self._monitor.message("The layers are not here as they came: the image gets a new digest")
        return self._push_compressed(compression or "gzip")

    def _push_as_it_came(self, data: bytes) -> Pushed:
        manifest = decode_manifest(data)
        layers = {layer.digest: layer for layer in manifest.layers if not layer.urls}
        self._in_parallel(self._send_as_it_came, list(layers.values()))
        return self._finish(manifest, data)

    def _send_as_it_came(self, layer: Descriptor) -> None:
        reporter = LayerReporter(self._monitor, layer.digest.short, layer.size)
        self._send(layer, self._store.blobs.has(layer.digest), reporter)

    def _push_compressed(self, compression: Compression) -> Pushed:
        diff_ids = list(dict.fromkeys(self._image.diff_ids))

        def compress_and_send(diff_id: DiffID) -> Descriptor:
            reporter = LayerReporter(self._monitor, diff_id.short, 0)
            reporter.state("Compressing")
            layer = self._store.layers.compressed(diff_id, compression)
            reporter.total(layer.size)
            self._send(layer, True, reporter)
            return layer

        made = dict(zip(diff_ids, self._in_parallel(compress_and_send, diff_ids), strict=True))
        config_bytes = self._store.blobs.size(self._image.id)
        manifest = Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=Descriptor(media_type=OCI_CONFIG, digest=self._image.id, size=config_bytes),
            layers=tuple(made[diff_id] for diff_id in self._image.diff_ids),
        )
        return self._finish(manifest, encode(manifest))

    def _finish(self, manifest: Manifest, data: bytes) -> Pushed:
        """Config, then manifest: a registry takes it only when it has all that it names."""
        config = manifest.config
        opened = self._opened(config.digest) if self._store.blobs.has(config.digest) else None
        if send_blob(self._repository, config, opened, sources=(), moved=_ignore) is None:
            raise _NotHereError(config.digest)
        self._repository.put_manifest(str(self._name.tag), manifest.media_type or OCI_MANIFEST, data)
        blobs = [config.digest, *(layer.digest for layer in manifest.layers if not layer.urls)]
        remember_sources(self._store, self._name, blobs)
        digest = Digest.of(data)
        self._monitor.message(f"{self._name.tag}: digest: {digest} size: {len(data)}")
        return Pushed(digest, len(data))

    def _send(self, layer: Descriptor, here: bool, reporter: LayerReporter) -> None:
        reporter.state("Waiting")
        sources = sources_of(self._store, self._name, layer.digest)
        done = send_blob(
            self._repository,
            layer,
            self._opened(layer.digest) if here else None,
            sources=sources,
            moved=lambda sent: reporter.moved("Pushing", sent),
        )
        if done is None:
            raise _NotHereError(layer.digest)
        outcome, source = done
        if outcome == "mounted":
            reporter.state("Mounted from", source, current_bytes=layer.size)
        else:
            reporter.state("Pushed" if outcome == "pushed" else "Layer already exists", current_bytes=layer.size)

    def _came_from_elsewhere(self, manifest: bytes) -> bool:
        """Whether it is another manifest than the store makes, which names uncompressed layers."""
        if tuple(layer.digest for layer in decode_manifest(manifest).layers) != self._image.diff_ids:
            return True
        return self._store.cache.memo_get(PULLED_MANIFEST, self._image.manifest_digest) is not None

    def _opened(self, digest: Digest) -> Callable[[], BinaryIO]:
        return lambda: self._store.blobs.open(digest)

    def _in_parallel(self, act: Callable[[_I], _R], items: list[_I]) -> list[_R]:
        return in_parallel(act, items, workers=self._parallel, stop=self._client.cancelled, name="push")


def _ignore(sent: int) -> None:
    del sent
