"""Image layouts: the files of image-spec's image-layout.md, in a tar or in a directory, with docker's beside them.

    oci-layout  index.json  manifest.json  repositories  blobs/sha256/<hex>…

All that the roots reach is written: the manifests of an index, their configs and layers. Documents and layers are blobs
of the store; a blob that is reached twice is written once. Equal roots give equal bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from core.digests import Digest
from core.files import storage_errors, write_atomically
from core.references import Reference
from images.attestations import REFERENCE_TYPE
from images.errors import InvalidLayerError
from images.oci import (
    CONTAINERD_NAME_ANNOTATION,
    INDEX_TYPES,
    OCI_INDEX,
    REF_NAME_ANNOTATION,
    Descriptor,
    Index,
    Manifest,
    decode_index,
    decode_manifest,
    encode,
)
from images.store import Store
from images.tarwriter import SupportsRead, SupportsWrite, TarWriter

LAYOUT_FILE: Final = b'{"imageLayoutVersion":"1.0.0"}'
_CHUNK = 1024 * 1024


class Root(NamedTuple):
    """A root of the layout: the descriptor of an image's manifest or index, and the names that it is to have."""

    descriptor: Descriptor
    names: tuple[Reference, ...] = ()


class Target(Protocol):
    """Where the files of an image layout go. ``copy`` reads its source to the end, or raises what that does."""

    def put(self, name: str, data: bytes) -> None: ...
    def copy(self, name: str, source: SupportsRead, size: int) -> None: ...


class TarTarget:
    """A tar on ``sink``, which is not closed. A context manager: what ends well has its end written."""

    def __init__(self, sink: SupportsWrite) -> None:
        self._writer = TarWriter(sink)

    def __enter__(self) -> TarTarget:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._writer.close()

    def put(self, name: str, data: bytes) -> None:
        self._writer.file(name.encode(), 0o644, 0, 0, 0, len(data), data)

    def copy(self, name: str, source: SupportsRead, size: int) -> None:
        self._writer.file(name.encode(), 0o644, 0, 0, 0, size, source)


class DirectoryTarget:
    """A directory, made if missing. Raises StorageFullError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with storage_errors(str(directory)):
            (directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)

    def put(self, name: str, data: bytes) -> None:
        write_atomically(self._directory / name, data)

    def copy(self, name: str, source: SupportsRead, size: int) -> None:
        path = self._directory / name
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with storage_errors(str(path)):
            try:
                with temporary.open("wb") as file:
                    while data := source.read(_CHUNK):
                        file.write(data)
                    if file.tell() != size:
                        raise InvalidLayerError(f"blob {path.name} has {file.tell()} bytes, expected {size}")
                temporary.rename(path)
            finally:
                temporary.unlink(missing_ok=True)


def write_layout(store: Store, roots: Sequence[Root], target: Target) -> None:
    """Write all that ``roots`` reach, the index last. Raises MissingBlobError, and what the target raises.

    Docker's files list only roots that are a single image: an archive with several platforms is for tools that know
    OCI's.
    """
    blobs: dict[Digest, int] = {}
    index: list[Descriptor] = []
    docker = _DockerFiles()
    for root in roots:
        manifests = _reach(store, root.descriptor, blobs)
        tagged = [name for name in root.names if name.tag]
        index += [named(root.descriptor, name) for name in tagged] or [root.descriptor]
        if len(manifests) == 1:
            docker.add(manifests[0], tagged)
    for digest, size in blobs.items():
        with store.blobs.open_checked(digest) as source:
            target.copy(blob_name(digest), source, size)
    docker.write(target)
    target.put("oci-layout", LAYOUT_FILE)
    target.put("index.json", encode(Index(schema_version=2, media_type=OCI_INDEX, manifests=tuple(index))))


def named(descriptor: Descriptor, name: Reference) -> Descriptor:
    """The descriptor as the ``index.json`` of a layout has it for an image of this name."""
    annotations = {CONTAINERD_NAME_ANNOTATION: f"{name.name}:{name.tag}", REF_NAME_ANNOTATION: str(name.tag)}
    return msgspec.structs.replace(descriptor, annotations={**descriptor.annotations, **annotations})


def blob_name(digest: Digest) -> str:
    """Where a blob is in a layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _reach(store: Store, descriptor: Descriptor, blobs: dict[Digest, int]) -> list[Manifest]:
    """Note what a root reaches, documents first. Returns the manifests of images, not those of attestations."""
    data = store.blobs.read_checked(descriptor.digest)
    blobs[descriptor.digest] = len(data)
    if descriptor.media_type in INDEX_TYPES:
        found = [(each, _reach(store, each, blobs)) for each in decode_index(data).manifests]
        return [manifest for each, reached in found if REFERENCE_TYPE not in each.annotations for manifest in reached]
    manifest = decode_manifest(data)
    for blob in (manifest.config, *manifest.layers):
        blobs[blob.digest] = blob.size
    return [manifest]


class _DockerFiles:
    """``manifest.json`` and ``repositories``: moby/moby image/spec/v1.2.md."""

    def __init__(self) -> None:
        self._manifests: list[dict[str, Any]] = []
        self._repositories: dict[str, dict[str, str]] = {}

    def add(self, manifest: Manifest, names: Sequence[Reference]) -> None:
        files = [blob_name(layer.digest) for layer in manifest.layers]
        tags = [f"{name.familiar_name}:{name.tag}" for name in names]
        self._manifests.append({"Config": blob_name(manifest.config.digest), "RepoTags": tags or None, "Layers": files})
        top = (manifest.layers[-1] if manifest.layers else manifest.config).digest.hex
        for name in names:
            self._repositories.setdefault(name.familiar_name, {})[str(name.tag)] = top

    def write(self, target: Target) -> None:
        if self._manifests:
            target.put("manifest.json", msgspec.json.encode(self._manifests))
            target.put("repositories", msgspec.json.encode(self._repositories))
