"""Pull: from a name to an image in the store, with the manifest and config that the registry has, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Set
from functools import partial
from typing import Final, Literal, NamedTuple

from core.digests import DiffID, Digest
from core.platforms import Platform
from core.references import Reference
from images.errors import ImagesError, MissingBlobError
from images.oci import (
    CONFIG_TYPES,
    MAX_DOCUMENT_BYTES,
    Descriptor,
    ImageConfig,
    Manifest,
    decode_config,
    decode_index,
    decode_manifest,
)
from images.originals import lost
from images.platforms import choose, is_image, offered, preferences
from images.store import Store
from images.summary import Image
from registry.client.client import Client
from registry.client.contents import fetch_artifact, import_layer, may_stay_away, note_origins
from registry.client.finding import Finder, document_type
from registry.client.monitor import LayerReporter, NullTransferMonitor, TransferMonitor
from registry.client.repository import RawManifest, Repository, is_index, is_manifest
from registry.client.sources import remember_sources
from registry.client.workers import in_parallel
from registry.errors import (
    InvalidResponseError,
    PlatformNotFoundError,
    UnsupportedContentError,
)

DEFAULT_PARALLEL: Final = 4

_RESOLVED: Final = "registry.resolved"  # memo: what was asked for -> ID of the image that it is
_MAX_DEPTH: Final = 3  # of indexes in indexes
_LAYER_SUFFIXES: Final = (".tar", ".tar+gzip", ".tar.gzip", ".tar+zstd", ".tar.zstd")


class Pulled(NamedTuple):
    """What was pulled.

    digest: what the name stands for at the registry, an index or a manifest.
    fresh: it was not here before.
    image: of an index that was pulled whole, the one of this host, or its first.
    """

    image: Image
    digest: Digest
    fresh: bool


class _Found(NamedTuple):
    """An image's manifest, and where it is."""

    raw: RawManifest
    manifest: Manifest
    repository: Repository


def pull(
    reference: Reference,
    store: Store,
    *,
    client: Client,
    platform: Platform | Literal["all"] | None = None,
    lazy: bool = False,
    monitor: TransferMonitor | None = None,
    parallel: int = DEFAULT_PARALLEL,
) -> Pulled:
    """Bring an image into the store and give it its name (``latest`` unless the reference says otherwise).

    platform: None is this host's if there is a choice, else whatever there is; "all" is the whole index, with its
    attestations.
    lazy: layers that are not here stay away until something needs them (``store.layers``); otherwise they are fetched.

    Raises RegistryErrors, ImagesErrors (content that is not what it is said to be) and StorageFullError. What arrived
    complete is kept, and a second try goes on from there.
    """
    options = _Options(platform, lazy, parallel)
    return _Pull(reference.with_default_tag(), store, client, options, monitor or NullTransferMonitor()).run()


class _Options(NamedTuple):
    platform: Platform | Literal["all"] | None
    lazy: bool
    parallel: int


class _Pull:
    def __init__(
        self, reference: Reference, store: Store, client: Client, options: _Options, monitor: TransferMonitor
    ) -> None:
        self._reference = reference
        self._store = store
        self._client = client
        self._options = options
        self._asked = options.platform if isinstance(options.platform, Platform) else None
        self._platform = self._asked or Platform.host()
        self._monitor = monitor
        self._is_host = store.holdings.domain.is_host
        self._name = reference if reference.digest is None else reference._replace(tag=None)
        self._finder = Finder(reference, client, monitor)

    def run(self) -> Pulled:
        reference = self._reference
        # For a digest, the host takes what it has. A run has to be shown by the registry what it names.
        shown = reference.digest if self._is_host else None
        shown = shown or self._finder.head()
        digest = reference.digest or shown
        known = self._known(digest) if digest and shown else None
        if digest and known:
            self._store.images.tag(self._name, known)
            here = self._store.images
            return Pulled(here.resolve(str(self._name)) if self._is_host else here.get(known), digest, fresh=False)
        top, place = self._finder.manifest(digest or str(reference.tag))
        self._monitor.message(f"{reference.digest or reference.tag}: Pulling from {reference.path}")
        if self._options.platform == "all" and is_index(document_type(top)):
            image = self._fetch_index(top)
        else:
            image = self._fetch(self._image_in(top, place), (self._name,))
            self._store.cache.memo_put(_RESOLVED, self._key(top.digest), image.id.encode())
        self._store.images.note_digest(reference, top.digest, image.id)
        return Pulled(image, top.digest, fresh=True)

    def _known(self, digest: Digest) -> Digest | None:
        """The image, or index, that this digest led to before, if it is still here: its ID, or digest."""
        try:
            if self._options.platform == "all":
                index = self._store.images.indexes.get(digest)
                target, images = index.digest, index.images
                manifests = [entry.descriptor.digest for entry in index.entries]
            else:
                data = self._store.cache.memo_get(_RESOLVED, self._key(digest))
                if data is None:
                    return None
                images = [self._store.images.get(Digest(data.decode()))]
                target, manifests = images[0].id, [images[0].manifest_digest]
        except ImagesError:
            return None
        diff_ids = [layer for image in images for layer in image.diff_ids]
        if not self._options.lazy and self._store.layers.missing(diff_ids):
            return None
        # A push sends what the manifests name: where that is not to be had any more, this pull says where it is.
        away = lost(self._store, diff_ids)
        return None if away and self._names_any(manifests, away) else target

    def _names_any(self, manifests: Iterable[Digest], blobs: Set[Digest]) -> bool:
        """Whether one of these manifests names one of the blobs as a layer, or cannot be read."""
        try:
            found = [decode_manifest(self._store.blobs.read_checked(digest)) for digest in manifests]
        except ImagesError:
            return True
        return any(layer.digest in blobs for manifest in found for layer in manifest.layers)

    def _key(self, digest: Digest) -> str:
        return f"{self._reference.name}@{digest} {self._asked or f'host {self._platform}'}"

    def _image_in(self, raw: RawManifest, place: Repository) -> _Found:
        """The manifest for the platform in what the name led to."""
        for _ in range(_MAX_DEPTH):
            if is_manifest(document_type(raw)):
                return _Found(raw, self._image_manifest(raw), place)
            raw, place = self._finder.manifest(self._chosen(raw).digest)
        raise UnsupportedContentError(f"{self._reference.familiar}: indexes nested more than {_MAX_DEPTH - 1} deep")

    def _chosen(self, raw: RawManifest) -> Descriptor:
        index = decode_index(raw.data)
        entry = choose(index.manifests, self._platform)
        if entry is None:
            there = offered(index.manifests)
            raise PlatformNotFoundError(
                f"{self._reference.familiar} is not there for {self._platform}",
                hint=f"it is for {', '.join(there)}: --platform chooses" if there else "its index names no image",
            )
        return entry

    def _image_manifest(self, raw: RawManifest) -> Manifest:
        manifest = decode_manifest(raw.data)
        name = self._reference.familiar
        kind = manifest.artifact_type or manifest.config.media_type
        if manifest.config.media_type not in CONFIG_TYPES:
            raise UnsupportedContentError(f"{name} is no container image, but {kind}")
        for layer in manifest.layers:
            if not layer.media_type.endswith(_LAYER_SUFFIXES):
                raise UnsupportedContentError(f"{name} has a layer of a kind that is not known: {layer.media_type}")
        return manifest

    def _fetch_index(self, top: RawManifest) -> Image:
        index = decode_index(top.data)
        for entry in index.manifests:
            raw, where = self._finder.manifest(entry.digest)
            if is_index(document_type(raw)):
                raise UnsupportedContentError(
                    f"{self._reference.familiar}: an index in an index cannot be kept whole",
                    hint="--platform pulls the image of one platform",
                )
            if is_image(entry):
                self._fetch(_Found(raw, self._image_manifest(raw), where), ())
                self._store.blobs.put(raw.data)  # also where the store has the image with another manifest
            else:
                fetch_artifact(self._store, raw, partial(self._finder.blob, where))
        stored = self._store.images.indexes.put(top.data, names=(self._name,))
        return self._store.images.resolve(stored.digest)

    def _fetch(self, found: _Found, names: tuple[Reference, ...]) -> Image:
        config_bytes, config = self._config(found)
        diff_ids = config.rootfs.diff_ids
        pairs = dict(zip(diff_ids, found.manifest.layers, strict=True))
        missing = set(self._store.layers.missing(list(pairs)))
        claimed = {
            diff_id
            for diff_id, layer in pairs.items()
            if diff_id not in missing and not self._store.holdings.is_pair(layer.digest, diff_id)
        }
        lazily = {diff_id for diff_id in missing if self._options.lazy and may_stay_away(pairs[diff_id])}
        left = {diff_id for diff_id, layer in pairs.items() if not self._will_have(layer, diff_id in missing | claimed)}
        note_origins(self._store, self._reference, {diff_id: pairs[diff_id] for diff_id in lazily | left})
        wanted = []
        for diff_id, layer in pairs.items():
            if diff_id in lazily:
                continue
            reporter = LayerReporter(self._monitor, layer.digest.short, layer.size)
            is_wanted = diff_id in missing or diff_id in claimed
            reporter.state("Waiting" if is_wanted else "Already exists")
            if is_wanted:
                wanted.append((diff_id, layer, reporter))
        if wanted:
            in_parallel(
                lambda item: self._layer(found.repository, *item),
                wanted,
                workers=self._options.parallel,
                stop=self._client.cancelled,
                name="pull",
            )
        blobs = [found.manifest.config.digest, *(layer.digest for layer in found.manifest.layers)]
        remember_sources(self._store, self._reference, blobs)
        # An image is named by its config's sha256. With another algorithm the manifest cannot be kept as it is.
        verbatim = found.manifest.config.digest.algorithm == "sha256"
        manifest = found.raw.data if verbatim else None
        image = self._store.images.put(config_bytes, diff_ids, names=names, manifest=manifest)
        self._store.images.note_digest(self._reference, found.raw.digest, image.id)
        return image

    def _config(self, found: _Found) -> tuple[bytes, ImageConfig]:
        descriptor = found.manifest.config
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise InvalidResponseError(f"image config {descriptor.digest} is stated to have {descriptor.size} bytes")
        data = self._here(descriptor.digest) if self._is_host else None
        if data is None:
            data = self._finder.blob(found.repository, lambda place: place.blob(descriptor.digest, descriptor.size))
        config = decode_config(data)
        if len(config.rootfs.diff_ids) != len(found.manifest.layers):
            raise InvalidResponseError(
                f"{self._reference.familiar}: the config names {len(config.rootfs.diff_ids)} layers,"
                f" the manifest {len(found.manifest.layers)}"
            )
        if self._asked is not None and config.platform not in preferences(self._asked):
            raise PlatformNotFoundError(
                f"{self._reference.familiar} is for {config.platform}, not for {self._asked}",
                hint="leave --platform out to take it all the same",
            )
        return data, config

    def _here(self, digest: Digest) -> bytes | None:
        try:
            return self._store.blobs.read_checked(digest)
        except MissingBlobError:
            return None

    def _layer(self, found_in: Repository, diff_id: DiffID, layer: Descriptor, reporter: LayerReporter) -> None:
        has_it = partial(self._finder.blob, found_in)
        keep = self._keeps(layer)
        import_layer(self._store, diff_id, layer, self._reference.domain, has_it, reporter, keep=keep)

    def _keeps(self, layer: Descriptor) -> bool:
        """Whether the blob of a layer stays, too; else its origin is known, for a push that needs it."""
        return self._client.config.keeps_pulled or not may_stay_away(layer)

    def _will_have(self, layer: Descriptor, is_wanted: bool) -> bool:
        """Whether the blob of a layer is here after the pull, or nobody could be asked for it again."""
        return self._keeps(layer) if is_wanted else not may_stay_away(layer) or self._store.blobs.has(layer.digest)
