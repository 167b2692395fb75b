"""Pull: from a name to an image in the store, with the manifest and config that the registry has, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from core.digests import DiffID, Digest
from core.platforms import Platform
from core.references import Reference
from images.errors import ImagesError
from images.images import Image
from images.oci import (
    CONFIG_TYPES,
    MAX_DOCUMENT_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Manifest,
    decode_config,
    decode_index,
    decode_manifest,
)
from images.platforms import choose, offered, preferences
from images.store import Store
from registry.client.client import Client
from registry.client.monitor import LayerReporter, NullTransferMonitor, TransferMonitor
from registry.client.repository import BlobReader, RawManifest, Repository, is_index, is_manifest
from registry.client.retrying import check_cancelled
from registry.client.sources import remember_sources
from registry.client.workers import in_parallel
from registry.errors import (
    InvalidResponseError,
    NotFoundError,
    PlatformNotFoundError,
    RegistryError,
    ResponseError,
    UnsupportedContentError,
)

_T = TypeVar("_T")

DEFAULT_PARALLEL: Final = 4

PULLED_MANIFEST: Final = "registry.pulled"  # memo: digests of manifests that came from a registry
_RESOLVED: Final = "registry.resolved"  # memo: what was asked for -> ID of the image that it is
_MAX_DEPTH: Final = 3  # of indexes in indexes
_LAYER_SUFFIXES: Final = (".tar", ".tar+gzip", ".tar.gzip", ".tar+zstd", ".tar.zstd")


@dataclass(frozen=True, slots=True)
class Pulled:
    """digest: what the name stands for at the registry, an index or a manifest. fresh: it was not here before."""

    image: Image
    digest: Digest
    fresh: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """A manifest for the platform, where it is, and the digest of what the name led to first."""

    raw: RawManifest
    manifest: Manifest
    repository: Repository
    top: Digest


def pull(
    reference: Reference,
    store: Store,
    *,
    client: Client,
    platform: Platform | None = None,
    monitor: TransferMonitor | None = None,
    parallel: int = DEFAULT_PARALLEL,
) -> Pulled:
    """Bring an image into the store and give it its name (``latest`` unless the reference says otherwise).

    platform: None is this host's where there is a choice, and whatever there is where there is none. Layers that are
    here already are not fetched. Raises RegistryErrors, ImagesErrors (content that is not what it is said to be) and
    StorageFullError; what arrived complete is kept, and a second try goes on from there.
    """
    return _Pull(
        reference.with_default_tag(), store, client, platform, monitor or NullTransferMonitor(), parallel
    ).run()


class _Pull:
    def __init__(
        self,
        reference: Reference,
        store: Store,
        client: Client,
        platform: Platform | None,
        monitor: TransferMonitor,
        parallel: int,
    ) -> None:
        self._reference = reference
        self._store = store
        self._client = client
        self._asked = platform
        self._platform = platform or Platform.host()
        self._monitor = monitor
        self._parallel = parallel
        self._name = reference if reference.digest is None else reference._replace(tag=None)
        self._repositories = [
            Repository(client, endpoint, reference.path) for endpoint in client.endpoints(reference, mirrors=True)
        ]

    def run(self) -> Pulled:
        reference = self._reference
        digest = reference.digest or self._head()
        known = self._known(digest) if digest else None
        if digest and known:
            self._store.images.tag(self._name, known.id)
            return Pulled(self._store.images.get(known.id), digest, fresh=False)
        found = self._find(digest or str(reference.tag))
        self._monitor.message(f"{reference.digest or reference.tag}: Pulling from {reference.path}")
        image = self._fetch(found)
        self._store.cache.memo_put(_RESOLVED, self._key(found.top), image.id.encode())
        self._store.cache.memo_put(PULLED_MANIFEST, image.manifest_digest, b"")
        return Pulled(image, found.top, fresh=True)

    def _head(self) -> Digest | None:
        """What the tag stands for now, which costs less than asking for the manifest, and no quota.

        Mirrors that fail are not asked again. None where only a GET will tell (more).
        """
        tag = str(self._reference.tag)
        for mirror in self._repositories[:-1]:
            try:
                return mirror.resolve(tag)
            except NotFoundError:
                continue
            except RegistryError as error:
                self._drop(mirror, error)
        try:
            return self._repositories[-1].resolve(tag)
        except ResponseError as error:
            if error.retryable:
                raise
            return None  # the answer to a HEAD has no body that says why

    def _drop(self, mirror: Repository, error: RegistryError) -> None:
        check_cancelled(self._client.cancelled)
        self._repositories.remove(mirror)
        self._monitor.message(f"mirror {mirror} does not help: {error.message}")

    def _known(self, digest: Digest) -> Image | None:
        """The image that this digest led to before, if it is still here."""
        data = self._store.cache.memo_get(_RESOLVED, self._key(digest))
        if data is None:
            return None
        try:
            image = self._store.images.get(Digest(data.decode()))
        except ImagesError:
            return None
        return None if self._store.layers.missing(image.diff_ids) else image

    def _key(self, digest: Digest) -> str:
        return f"{self._reference.name}@{digest} {self._asked or f'host {self._platform}'}"

    def _find(self, wanted: str | Digest) -> _Found:
        for mirror in self._repositories[:-1]:
            try:
                return self._find_in(mirror, wanted)
            except RegistryError as error:
                self._drop(mirror, error)
        return self._find_in(self._repositories[-1], wanted)

    def _find_in(self, repository: Repository, wanted: str | Digest) -> _Found:
        try:
            raw = repository.manifest(wanted)
        except NotFoundError:
            if self._reference.digest is not None or not isinstance(wanted, Digest):
                raise
            raw = repository.manifest(str(self._reference.tag))  # retagged since, or HEAD told nonsense
        top = raw.digest
        for _ in range(_MAX_DEPTH):
            media_type = _document_type(raw)
            if is_manifest(media_type):
                return _Found(raw, self._image_manifest(raw), repository, top)
            raw = repository.manifest(self._chosen(raw).digest)
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

    def _fetch(self, found: _Found) -> Image:
        config_bytes, config = self._config(found)
        diff_ids = config.rootfs.diff_ids
        pairs = dict(zip(diff_ids, found.manifest.layers, strict=True))
        missing = set(self._store.layers.missing(list(pairs)))
        wanted = []
        for diff_id, layer in pairs.items():
            reporter = LayerReporter(self._monitor, layer.digest.short, layer.size)
            reporter.state("Waiting" if diff_id in missing else "Already exists")
            if diff_id in missing:
                wanted.append((diff_id, layer, reporter))
        if wanted:
            in_parallel(
                lambda item: self._layer(found.repository, *item),
                wanted,
                workers=self._parallel,
                stop=self._client.cancelled,
                name="pull",
            )
        blobs = [found.manifest.config.digest, *(layer.digest for layer in found.manifest.layers)]
        remember_sources(self._store, self._reference, blobs)
        # An image is named by its config's sha256. With another algorithm the manifest cannot be kept as it is.
        verbatim = found.manifest.config.digest.algorithm == "sha256"
        manifest = found.raw.data if verbatim else None
        return self._store.images.put(config_bytes, diff_ids, names=(self._name,), manifest=manifest)

    def _config(self, found: _Found) -> tuple[bytes, ImageConfig]:
        descriptor = found.manifest.config
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise InvalidResponseError(f"image config {descriptor.digest} is stated to have {descriptor.size} bytes")
        if self._store.blobs.has(descriptor.digest):
            data = self._store.blobs.read(descriptor.digest)
        else:
            data = self._blob(found.repository, lambda place: place.blob(descriptor.digest, descriptor.size))
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

    def _layer(self, found_in: Repository, diff_id: DiffID, layer: Descriptor, reporter: LayerReporter) -> None:
        reporter.state("Downloading")
        source = self._blob(found_in, lambda place: self._open(place, layer, reporter))
        try:
            expected = layer if layer.digest.algorithm == "sha256" else None  # the reader checks others
            self._store.layers.import_compressed(source, diff_id=diff_id, expected=expected)
        finally:
            source.close()
        reporter.state("Pull complete", current_bytes=layer.size)

    def _open(self, place: Repository, layer: Descriptor, reporter: LayerReporter) -> BlobReader:
        def moved(current_bytes: int) -> None:
            reporter.moved("Downloading", current_bytes)

        try:
            return place.open_blob(layer, moved)
        except NotFoundError:
            for url in layer.urls:  # a foreign layer: its registry need not have it
                try:
                    return place.open_foreign(url, layer, moved)
                except RegistryError:
                    check_cancelled(self._client.cancelled)
            raise

    def _blob(self, found_in: Repository, get: Callable[[Repository], _T]) -> _T:
        """From where the manifest was, or from the registry itself when its mirror has the manifest only."""
        last = self._repositories[-1]
        if found_in is last:
            return get(last)
        try:
            return get(found_in)
        except RegistryError:
            check_cancelled(self._client.cancelled)
            return get(last)


def _document_type(raw: RawManifest) -> str:
    """What it is: by Content-Type, or by what it says of itself where a server sends no useful one."""
    if is_index(raw.media_type) or is_manifest(raw.media_type):
        return raw.media_type
    try:
        document = json.loads(raw.data)
        stated = document.get("mediaType") or (OCI_INDEX if "manifests" in document else OCI_MANIFEST)
    except (ValueError, AttributeError) as error:
        raise InvalidResponseError(f"the manifest {raw.digest} is no JSON object") from error
    if not is_index(stated) and not is_manifest(stated):
        raise UnsupportedContentError(f"manifest {raw.digest} is of a kind that is not known: {str(stated)[:100]}")
    return str(stated)
