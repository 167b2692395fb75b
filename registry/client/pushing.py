"""Push: from an image or index in the store to a name at a registry.

An image that was pulled goes out with the manifest that it came with, so that its digest stays. An index goes out with
the manifests that it names. Other images get a manifest of compressed layers: compressed once, remembered, and streamed
from where the store keeps them. What the registry has, or can mount, is not needed here: layers that are away stay
away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, Final, Literal, NamedTuple, TypeVar

import msgspec

from core.digests import DiffID, Digest
from core.platforms import Platform
from core.references import Reference
from images.errors import DigestMismatchError, MissingBlobError
from images.indexes import StoredIndex
from images.layers import Origin
from images.oci import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, decode_manifest, encode
from images.originals import bring_back
from images.packing import packed_layer
from images.store import Store
from images.summary import Image
from registry.client.client import Client
from registry.client.contents import bring_blob_back
from registry.client.finding import Finder
from registry.client.lazy import RegistryLayers
from registry.client.monitor import LayerReporter, NullTransferMonitor, TransferMonitor
from registry.client.repository import Repository
from registry.client.sending import Sender, refusals_of_damage
from registry.client.sources import remember_sources, sources_of
from registry.client.streaming import StreamedUpload
from registry.client.workers import in_parallel
from registry.errors import RegistryError, TransferCancelledError, UnsupportedContentError

_I = TypeVar("_I")
_R = TypeVar("_R")

_MOST_ORIGINS: Final = 8  # of a blob, to be asked for it: others may have noted any number
DEFAULT_PARALLEL: Final = 8  # registries sync each blob to their disks: many small ones at a time share that

Compression = Literal["gzip", "zstd"]


class Pushed(NamedTuple):
    """The manifest or index at the registry: its digest and its size."""

    digest: Digest
    size_bytes: int


class _NotHereError(MissingBlobError):
    """A blob that a manifest names is neither in the store nor at the registry."""

    def __init__(self, blob: Descriptor) -> None:
        super().__init__(f"blob {blob.digest}, which the manifest names, is neither here nor at the registry")


def push(
    reference: Reference,
    store: Store,
    *,
    client: Client,
    image: Image | StoredIndex | None = None,
    platform: Platform | None = None,
    compression: Compression | None = None,
    by_digest: bool = False,
    annotations: Mapping[str, str] | None = None,
    monitor: TransferMonitor | None = None,
    parallel: int = DEFAULT_PARALLEL,
) -> Pushed:
    """Send an image, or an index with all that it has, to the registry under its name (``latest`` by default).

    image: what to send; None is what the name stands for in the store.
    platform: of an index only this image, with the manifest that the index names.
    compression: of layers; None keeps the layers that an image was pulled with, and is gzip for others.
    by_digest: under its digest only, whatever tag the name has.
    annotations: of the manifest, where it is made here.

    Layers that the registry has are not sent. Those that another of its repositories is known to have are mounted.
    Raises RegistryErrors, ImageNotFoundError, MissingBlobError and StorageFullError.
    """
    name = reference.with_default_tag()
    if name.tag is None and not by_digest:
        raise UnsupportedContentError(f"{reference.familiar}: a push needs a tag", hint="write NAME:TAG")
    what = image or store.images.indexes.find(reference.familiar) or store.images.resolve(reference.familiar)
    blobs = sum(len(each.diff_ids) + 1 for each in (what.images if isinstance(what, StoredIndex) else (what,)))
    if by_digest:
        name = name._replace(tag=None)
    pushing = _Push(name, store, client, monitor or NullTransferMonitor(), parallel, blobs)
    if isinstance(what, Image):
        return pushing.image(what, compression, annotations or {})
    if platform is not None:
        chosen = store.images.indexes.choose(what.digest, platform)
        entry = next(entry for entry in what.entries if entry.image is not None and entry.image.id == chosen)
        return pushing.of_index(store.blobs.read_checked(entry.descriptor.digest), entry.image)
    if compression is not None:
        raise UnsupportedContentError(
            f"cannot compress {name.familiar} anew: its index names the layers as they are",
            hint=f"leave --compression out, or build it with -o type=image,compression={compression}",
        )
    return pushing.index(what)


class _Push:
    """One push while it goes on.

    blobs: about how many there are.
    """

    def __init__(
        self, name: Reference, store: Store, client: Client, monitor: TransferMonitor, parallel: int, blobs: int
    ) -> None:
        endpoint = client.endpoints(name, mirrors=False)[0]
        self._name = name
        self._store = store
        self._client = client
        self._monitor = monitor
        self._parallel = parallel
        self._repository = Repository(client, endpoint, name.path)
        self._sender = Sender(self._repository, blobs)

    def image(self, image: Image, compression: Compression | None, annotations: Mapping[str, str]) -> Pushed:
        self._announce()
        if compression is None and image.manifest_is_given:
            data = self._store.blobs.read_checked(image.manifest_digest)
            lost = self._lost(decode_manifest(data), image)
            if lost is None:
                return self.manifest(data, image)
            # Nothing was sent so far: whoever does not want the image under another digest ends it here.
            self._monitor.message(
                f"The layers are not here as they came ({lost}): they are compressed anew, and the image gets another"
                " digest"
            )
        made = msgspec.structs.replace(self._packed(image, compression), annotations=dict(annotations))
        data = encode(made)
        self._send_small(made.config)
        return self._finish(OCI_MANIFEST, data, image, made)

    def of_index(self, data: bytes, image: Image | None) -> Pushed:
        """An image with the manifest that its index names."""
        self._check_whole(decode_manifest(data), image)
        return self.manifest(data, image)

    def manifest(self, data: bytes, image: Image | None) -> Pushed:
        """With this manifest, byte for byte."""
        manifest = decode_manifest(data)
        self._send_all([(manifest, image)])
        return self._finish(manifest.media_type or OCI_MANIFEST, data, image, manifest)

    def index(self, index: StoredIndex) -> Pushed:
        """Everything that it names, first all blobs, then all manifests, then itself."""
        self._announce()
        documents = [self._store.blobs.read_checked(entry.descriptor.digest) for entry in index.entries]
        manifests = [decode_manifest(data) for data in documents]
        images = [entry.image for entry in index.entries]
        for manifest, image in zip(manifests, images, strict=True):
            self._check_whole(manifest, image)
        self._send_all(list(zip(manifests, images, strict=True)))

        def put(item: tuple[Descriptor, bytes]) -> None:
            self._repository.put_manifest(item[0].digest, item[0].media_type, item[1])

        self._in_parallel(put, list(zip(index.document.manifests, documents, strict=True)))
        default = self._store.images.resolve(index.digest)
        return self._finish(index.document.media_type or OCI_INDEX, index.data, default, *manifests)

    def _check_whole(self, manifest: Manifest, image: Image | None) -> None:
        """Raise MissingBlobError where the manifest cannot be sent as it came: an index names it so."""
        if image is not None and (lost := self._lost(manifest, image)) is not None:
            raise MissingBlobError(
                f"a layer is not here as it came, and the index names it so: {lost}",
                hint="pull the index again, from where it is now",
            )

    def _lost(self, manifest: Manifest, image: Image) -> str | None:
        """Why the manifest cannot be sent as it came; None: every layer is here, can be had again, or is there."""
        for layer, diff_id in zip(manifest.layers, image.diff_ids, strict=True):
            why = self._lacks(layer, diff_id) if not layer.urls else None
            if why is not None:
                return why
        return None

    def _lacks(self, layer: Descriptor, diff_id: DiffID) -> str | None:
        """Why a layer's blob cannot be sent as it came. What is away with all of its layer is fetched, or an error."""
        if self._may_send(layer.digest, diff_id) or self._store.layers.away((diff_id,)):
            return None
        if self._repository.has_blob(layer.digest) or bring_back(self._store, diff_id, layer.digest):
            return None
        if self._is_near(layer):
            return None
        origins = self._store.layers.origins_of(diff_id, layer.digest)
        if not origins:
            return f"nobody is known to have blob {layer.digest}"
        failure = self._at_origins(
            origins, lambda finder: finder.any_blob(lambda place: place.check_blob(layer.digest))
        )
        if failure is None:
            return None
        if not self._store.holdings.domain.is_host:  # whose repositories these are is not the run's business
            return f"no registry that had blob {layer.digest} gives it to this run"
        return f"blob {layer.digest} was at {origins[0].repository}: {failure.message}"

    def _is_near(self, layer: Descriptor) -> bool:
        """Whether another repository of the registry has it, from which it may be mounted."""
        sources = sources_of(self._store, self._name, layer.digest)
        places = (Repository(self._client, self._repository.endpoint, source) for source in sources)
        return any(self._has(place, layer.digest) for place in places)

    def _has(self, place: Repository, blob: Digest) -> bool:
        try:
            return place.has_blob(blob, actions="pull")
        except TransferCancelledError:
            raise
        except RegistryError:
            return False  # which we may not read

    def _at_origins(
        self, origins: Sequence[Origin], get: Callable[[Finder], None]
    ) -> RegistryError | DigestMismatchError | None:
        """Do it at the first of these places where that works. Returns the first one's error if none does."""
        first: RegistryError | DigestMismatchError | None = None
        for origin in origins[:_MOST_ORIGINS]:
            try:
                get(Finder(Reference.parse(origin.repository), self._client, self._monitor))
            except TransferCancelledError:
                raise
            except (RegistryError, DigestMismatchError) as error:
                first = first or error
            else:
                return None
        return first

    def _announce(self) -> None:
        self._monitor.message(f"The push refers to repository [{self._name.name}]")

    def _packed(self, image: Image, compression: Compression | None) -> Manifest:
        """Compress and send the layers; returns the manifest of what is sent."""
        diff_ids = list(dict.fromkeys(image.diff_ids))
        # A registry of ours may share this store: then it has what is compressed here, and is sent nothing.
        streams = not self._client.is_ours(self._repository.endpoint)

        def compress_and_send(diff_id: DiffID) -> Descriptor:
            reporter = LayerReporter(self._monitor, diff_id.short, 0)
            there = self._made_and_there(diff_id) if compression is None else None
            if there is not None:
                reporter.total(there.size)
                reporter.state("Layer already exists", current_bytes=there.size)
                return there
            reporter.state("Compressing")
            stream = StreamedUpload(self._repository, reporter.passed)
            begun = stream.begin if streams else None
            try:
                if compression is not None:
                    self._fetch(diff_id)
                    layer = self._store.layers.compressed(diff_id, compression, begun=begun)  # whatever it came as
                else:
                    layer = packed_layer(self._store, diff_id, "gzip", begun=begun)
                    if not stream.has_begun and self._lacks(layer, diff_id) is not None:
                        # It came as a blob that nobody gives any more: another one serves as well, for no manifest
                        # names that one yet.
                        layer = self._store.layers.compressed(diff_id, "gzip", begun=begun)
            except BaseException:
                stream.abandon()
                raise
            reporter.total(layer.size)
            if stream.has_begun:
                self._end_stream(stream, layer, reporter)
            else:
                self._send_layer(layer, diff_id, reporter)
            return layer

        made = dict(zip(diff_ids, self._in_parallel(compress_and_send, diff_ids), strict=True))
        config_bytes = self._store.blobs.size(image.id)
        return Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=Descriptor(media_type=OCI_CONFIG, digest=image.id, size=config_bytes),
            layers=tuple(made[diff_id] for diff_id in image.diff_ids),
        )

    def _made_and_there(self, diff_id: DiffID) -> Descriptor | None:
        """What the layer was compressed to before, if that is not here any more, but in the repository."""
        made = self._store.layers.made_before(diff_id, "gzip")
        if made is None or self._store.blobs.has(made.digest) or not self._repository.has_blob(made.digest):
            return None
        return made

    def _end_stream(self, stream: StreamedUpload, layer: Descriptor, reporter: LayerReporter) -> None:
        """After a layer was made and sent at the same time."""
        with refusals_of_damage(self._store, layer.digest):
            stream.finish(layer, self._opened(layer.digest), lambda sent: reporter.moved("Pushing", sent))
        reporter.state("Pushed", current_bytes=layer.size)

    def _send_all(self, manifests: list[tuple[Manifest, Image | None]]) -> None:
        """Layers, configs, and what artifacts have."""
        layers: dict[Digest, tuple[Descriptor, DiffID | None]] = {}
        for manifest, image in manifests:
            diff_ids = image.diff_ids if image is not None else (None,) * len(manifest.layers)
            for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
                if not layer.urls:
                    layers[layer.digest] = layer, diff_id
        self._in_parallel(
            lambda item: self._send_layer(*item, LayerReporter(self._monitor, item[0].digest.short, item[0].size)),
            list(layers.values()),
        )
        configs = {manifest.config.digest: manifest.config for manifest, _ in manifests}
        self._in_parallel(self._send_small, list(configs.values()))

    def _send_layer(self, layer: Descriptor, diff_id: DiffID | None, reporter: LayerReporter) -> None:
        """diff_id: of an image's layer, which can be fetched when it is away."""
        reporter.state("Waiting")
        sources = sources_of(self._store, self._name, layer.digest)

        def send() -> tuple[str, str] | None:
            here = self._opened(layer.digest) if self._may_send(layer.digest, diff_id) else None
            with refusals_of_damage(self._store, layer.digest):
                return self._sender.send(
                    layer, here, sources=sources, moved=lambda sent: reporter.moved("Pushing", sent)
                )

        done = send()
        if done is None and diff_id is not None and self._brought(layer, diff_id, reporter):
            done = send()
        if done is None:
            raise _NotHereError(layer)
        outcome, source = done
        if outcome == "mounted":
            reporter.state("Mounted from", source, current_bytes=layer.size)
        else:
            reporter.state("Pushed" if outcome == "pushed" else "Layer already exists", current_bytes=layer.size)

    def _brought(self, layer: Descriptor, diff_id: DiffID, reporter: LayerReporter) -> bool:
        """Have the blob here again: made of the layer, or from where it came. Returns whether it is here now."""
        if self._may_send(layer.digest, diff_id):
            return False  # it was sent, and that was in vain
        if bring_back(self._store, diff_id, layer.digest):
            return True
        # Where no blob stays, bringing the layer would bring the blob twice; but a run has to hold the layer.
        brings_layer = self._client.config.keeps_pulled or not self._store.holdings.domain.is_host
        if brings_layer and self._store.layers.away((diff_id,)):
            self._fetch(diff_id)
            if self._may_send(layer.digest, diff_id):
                return True
        origins = self._store.layers.origins_of(diff_id, layer.digest)
        if not origins:
            return False
        blob = origins[0].blob
        failure = self._at_origins(
            origins, lambda finder: bring_blob_back(self._store, blob, finder.any_blob, reporter)
        )
        if failure is not None and self._store.holdings.domain.is_host:
            raise failure
        return failure is None

    def _may_send(self, blob: Digest, diff_id: DiffID | None) -> bool:
        """Whether the blob is here; for a run only where it was found to be a layer that the run holds."""
        if not self._store.blobs.has(blob):
            return False
        if self._store.holdings.domain.is_host or diff_id is None:
            return True
        return self._store.layers.has(diff_id) and self._store.holdings.is_pair(blob, diff_id)

    def _fetch(self, diff_id: DiffID) -> None:
        """Bring the layer here, if need be over this push's own connections."""
        self._store.layers.fetch((diff_id,), by=RegistryLayers(self._store, self._client))

    def _send_small(self, blob: Descriptor) -> None:
        here = self._opened(blob.digest) if self._store.blobs.has(blob.digest) else None
        with refusals_of_damage(self._store, blob.digest):
            done = self._sender.send(blob, here, moved=_ignore)
        if done is None:
            raise _NotHereError(blob)

    def _finish(self, media_type: str, data: bytes, image: Image | None, *manifests: Manifest) -> Pushed:
        """Send the document that the tag is to stand for; a registry takes it only after all that it names."""
        digest = Digest.of(data)
        self._repository.put_manifest(self._name.tag or digest, media_type, data)
        blobs = [blob.digest for manifest in manifests for blob in (manifest.config, *manifest.layers) if not blob.urls]
        remember_sources(self._store, self._name, blobs)
        if image is not None:
            self._store.images.note_digest(self._name, digest, image.id)
        self._monitor.message(f"{self._name.tag or self._name.familiar}: digest: {digest} size: {len(data)}")
        return Pushed(digest, len(data))

    def _opened(self, digest: Digest) -> Callable[[], BinaryIO]:
        return lambda: self._store.blobs.open(digest)

    def _in_parallel(self, act: Callable[[_I], _R], items: list[_I]) -> list[_R]:
        return in_parallel(act, items, workers=self._parallel, stop=self._client.cancelled, name="push")


def _ignore(sent: int) -> None:
    del sent
