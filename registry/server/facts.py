"""What lists say of an image: how large it is, for which platforms, and what it is called by those who run it.

Read from the manifests as they were pushed, and kept in memory: what a digest names never changes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import msgspec

from core.digests import Digest
from core.errors import ShiplapError
from images.oci import INDEX_TYPES, MANIFEST_TYPES, Descriptor, decode_config, decode_index, decode_manifest
from registry.server.content import Content
from registry.server.manifests import Manifest, Manifests

_KEPT: Final = 5000
_MOST_CHILDREN: Final = 32
_MAX_CONFIG_BYTES: Final = 4 << 20
_ABOUT: Final = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """An image in a list.

    size_bytes: what a pull takes; of an image for several platforms, for the largest.
    platforms: ``linux/amd64``; none for what is no image.
    ids: of the images, one a platform: digests of their configs.
    kind: what it is where it is no image; empty for one.
    is_whole: nothing of it is missing here.
    """

    size_bytes: int
    platforms: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    kind: str = ""
    is_whole: bool = True


class Facts:
    """The facts of a registry's manifests. Thread-safe."""

    def __init__(self, manifests: Manifests, content: Content) -> None:
        self._manifests = manifests
        self._content = content
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, Digest], ImageFacts] = OrderedDict()

    def of(self, repository: str, manifest: Manifest) -> ImageFacts:
        """Of a manifest in ``repository``. What cannot be read has its own size and nothing else."""
        key = (repository, manifest.digest)
        with self._lock:
            known = self._kept.get(key)
        if known is not None:
            return known
        try:
            found = self._read(repository, manifest)
        except (ShiplapError, msgspec.MsgspecError, OSError):
            return ImageFacts(manifest.size, kind="what cannot be read", is_whole=False)
        if found.is_whole:
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return found

    def _read(self, repository: str, manifest: Manifest) -> ImageFacts:
        data = self._manifests.read(manifest)
        if manifest.media_type in MANIFEST_TYPES:
            return self._of_image(repository, manifest.size, data)
        if manifest.media_type not in INDEX_TYPES:
            return ImageFacts(manifest.size, kind=manifest.media_type)
        return self._of_index(repository, manifest, data)

    def _of_index(self, repository: str, manifest: Manifest, data: bytes) -> ImageFacts:
        children = decode_index(data).manifests
        shown = [child for child in children if _ABOUT not in child.annotations and child.media_type in MANIFEST_TYPES]
        largest, is_whole = 0, len(shown) <= _MOST_CHILDREN
        platforms: list[str] = []
        ids: list[str] = []
        for child in shown[:_MOST_CHILDREN]:
            try:
                its = self._of_image(repository, child.size, self._manifests.read(self._found(repository, child)))
            except (ShiplapError, msgspec.MsgspecError, OSError):  # not here, as in a mirror
                is_whole = False
                platforms += [str(child.platform.normalised())] if child.platform is not None else []
                continue
            largest = max(largest, its.size_bytes)
            platforms += [str(child.platform.normalised())] if child.platform is not None else its.platforms
            ids += its.ids
        kind = "" if shown else "an index without images"
        size = manifest.size + (largest or sum(child.size for child in children))
        return ImageFacts(size, tuple(dict.fromkeys(platforms)), tuple(ids), kind, is_whole)

    def _of_image(self, repository: str, size: int, data: bytes) -> ImageFacts:
        document = decode_manifest(data)
        size += document.config.size + sum(layer.size for layer in document.layers)
        config = document.config
        if "image" not in config.media_type or config.size > _MAX_CONFIG_BYTES:
            return ImageFacts(size, kind=config.media_type)
        blob = self._content.find(repository, config.digest)
        try:
            platform = str(decode_config(self._content.read(blob.content)).platform)
        except (ShiplapError, msgspec.MsgspecError):  # an artifact that says it is an image's config
            return ImageFacts(size, kind=config.media_type)
        return ImageFacts(size, (platform,), (str(config.digest),))

    def _found(self, repository: str, child: Descriptor) -> Manifest:
        return self._manifests.find(repository, child.digest)
