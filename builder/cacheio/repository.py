"""A cache in a registry, beside the images: a manifest with a tag."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from builder.cacheio.places import CacheContents, LayerStream, contents_of
from builder.errors import CacheFormatError
from core.digests import Digest
from core.platforms import Platform
from core.references import Reference
from images.oci import OCI_MANIFEST, Descriptor, decode_index
from images.platforms import choose
from registry.client import Client
from registry.client.repository import Repository, is_index
from registry.client.sending import Sender
from registry.errors import NotFoundError

_MAX_SOURCES: Final = 3


class RepositorySource:
    """The cache that ``name`` stands for. For an image of several platforms, it is that of ``platform``."""

    def __init__(self, client: Client, name: Reference, platform: Platform) -> None:
        self._name = name
        self._platform = platform
        self._repository = _repository(client, name)

    def __str__(self) -> str:
        return self._name.familiar

    @property
    def name(self) -> Reference:
        return self._name

    def read(self) -> CacheContents:
        raw = self._repository.manifest(self._name.digest or str(self._name.tag))
        if is_index(raw.media_type):
            entry = choose(decode_index(raw.data).manifests, self._platform)
            if entry is None:
                raise CacheFormatError(f"it has nothing for {self._platform}")
            raw = self._repository.manifest(entry.digest)
        return contents_of(raw.data, lambda config: self._repository.blob(config.digest, config.size))

    def open_layer(self, layer: Descriptor, moved: Callable[[int], None]) -> LayerStream:
        return self._repository.open_blob(layer, moved)


class RepositoryTarget:
    """The name that a cache is pushed under. near: names from which the registry may mount layers."""

    def __init__(self, client: Client, name: Reference, near: tuple[Reference, ...]) -> None:
        self._name = name
        self._repository = _repository(client, name)
        paths = (other.path for other in near if other.domain == name.domain and other.path != name.path)
        self._mountable = tuple(dict.fromkeys(paths))[:_MAX_SOURCES]
        self._sender = Sender(self._repository)

    def __str__(self) -> str:
        return self._name.familiar

    def __enter__(self) -> RepositoryTarget:
        return self

    def __exit__(self, *_: object) -> None: ...

    def send(self, blob: Descriptor, open_blob: Callable[[], BinaryIO] | None, moved: Callable[[int], None]) -> bool:
        return self._sender.send(blob, open_blob, sources=self._mountable, moved=moved) is not None

    def is_current(self, manifest: bytes) -> bool:
        try:
            return self._repository.resolve(str(self._name.tag)) == Digest.of(manifest)
        except NotFoundError:
            return False

    def read(self) -> bytes | None:
        """The manifest that the name stands for; None where there is none."""
        try:
            return self._repository.manifest(str(self._name.tag)).data
        except NotFoundError:
            return None

    def finish(self, manifest: bytes) -> None:
        self._repository.put_manifest(str(self._name.tag), OCI_MANIFEST, manifest)


def _repository(client: Client, name: Reference) -> Repository:
    return Repository(client, client.endpoints(name, mirrors=False)[0], name.path)
