"""A cache in a directory: an OCI image layout, in whose index each cache has a tag.

    DIR/oci-layout, DIR/index.json, DIR/blobs/sha256/<hex>, DIR/.lock

A blob appears whole. The index is replaced last; then the blobs go that only the replaced cache had. Writers take turns
by the lock. A reader that loses a race finds a blob missing, and builds without that blob.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from builder.cacheio.document import CACHE_ARTIFACT
from builder.cacheio.places import CacheContents, LayerStream, contents_of
from builder.errors import CacheExportError, CacheFormatError
from builder.request.cache import CacheFrom, CacheTo
from core.digests import Digest
from core.errors import ShiplapError
from core.files import replacing, write_atomically
from images.errors import DigestMismatchError
from images.oci import (
    MAX_DOCUMENT_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    REF_NAME_ANNOTATION,
    Descriptor,
    Index,
    decode_index,
    decode_manifest,
    encode,
)

_PIECE_BYTES: Final = 1 << 20


class LayoutSource:
    """The cache that ``origin`` names."""

    def __init__(self, origin: CacheFrom) -> None:
        self._origin = origin
        self._directory = Path(origin.location)

    def __str__(self) -> str:
        return self._origin.location

    def read(self) -> CacheContents:
        try:
            index = decode_index(_limited(self._directory / "index.json", MAX_DOCUMENT_BYTES))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CacheFormatError(f"there is no cache in {self._directory}") from error
        wanted = self._origin.digest
        for entry in index.manifests:
            if entry.digest == wanted if wanted else entry.annotations.get(REF_NAME_ANNOTATION) == self._origin.tag:
                return contents_of(self._verified(entry), self._verified)
        raise CacheFormatError(f"there is no {wanted or f'tag {self._origin.tag}'} in {self._directory}")

    def open_layer(self, layer: Descriptor, moved: Callable[[int], None]) -> LayerStream:
        del moved
        return open(_blob(self._directory, layer.digest), "rb")

    def _verified(self, blob: Descriptor) -> bytes:
        data = _limited(_blob(self._directory, blob.digest), blob.size)
        if Digest.of(data) != blob.digest:
            raise CacheFormatError(f"blob {blob.digest} of {self._directory} is damaged")
        return data


class LayoutTarget:
    """A directory that a cache is written to, made if missing. A context manager: until it ends, other writers wait."""

    def __init__(self, target: CacheTo) -> None:
        self._tag = target.tag
        self._directory = Path(target.location)
        self._stack = contextlib.ExitStack()

    def __str__(self) -> str:
        return str(self._directory)

    def __enter__(self) -> LayoutTarget:
        from images.locks import exclusive

        try:
            (self._directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
            self._stack.enter_context(exclusive(self._directory / ".lock"))
            write_atomically(self._directory / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        except OSError as error:
            raise CacheExportError(
                f"cannot write a cache to {self._directory}: {error.strerror}", hint="check the directory in dest="
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, blob: Descriptor, open_blob: Callable[[], BinaryIO] | None, moved: Callable[[int], None]) -> bool:
        path = _blob(self._directory, blob.digest)
        if path.exists() and path.stat().st_size == blob.size:
            return True
        if open_blob is None:
            return False
        checksum = hashlib.sha256()
        with open_blob() as source, replacing(path) as sink:
            while data := source.read(_PIECE_BYTES):
                checksum.update(data)
                sink.write(data)
                moved(sink.tell())
            if checksum.hexdigest() != blob.digest.hex:
                raise DigestMismatchError(f"blob {blob.digest} has other content")
        return True

    def is_current(self, manifest: bytes) -> bool:
        return any(self._is_ours(entry) and entry.digest == Digest.of(manifest) for entry in self._index().manifests)

    def finish(self, manifest: bytes) -> None:
        digest = Digest.of(manifest)
        write_atomically(_blob(self._directory, digest), manifest)
        entry = Descriptor(
            media_type=OCI_MANIFEST,
            artifact_type=CACHE_ARTIFACT,
            digest=digest,
            size=len(manifest),
            annotations={REF_NAME_ANNOTATION: self._tag},
        )
        before = self._index().manifests
        after = (*(other for other in before if not self._is_ours(other)), entry)
        index = Index(schema_version=2, media_type=OCI_INDEX, manifests=after)
        write_atomically(self._directory / "index.json", encode(index))
        replaced = {blob for other in before if self._is_ours(other) for blob in self._blobs_of(other)}
        for blob in replaced.difference(*(set(self._blobs_of(other)) for other in after)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_blob(self._directory, blob))

    def _is_ours(self, entry: Descriptor) -> bool:
        return entry.annotations.get(REF_NAME_ANNOTATION) == self._tag

    def _index(self) -> Index:
        try:
            return decode_index(_limited(self._directory / "index.json", MAX_DOCUMENT_BYTES))
        except FileNotFoundError:
            return Index(schema_version=2, manifests=())

    def _blobs_of(self, entry: Descriptor) -> Iterator[Digest]:
        """A manifest, and what it names."""
        yield entry.digest
        with contextlib.suppress(OSError, ShiplapError):
            manifest = decode_manifest(_limited(_blob(self._directory, entry.digest), MAX_DOCUMENT_BYTES))
            yield manifest.config.digest
            yield from (layer.digest for layer in manifest.layers)


def _blob(directory: Path, digest: Digest) -> Path:
    return directory / "blobs" / digest.algorithm / digest.hex


def _limited(path: Path, limit_bytes: int) -> bytes:
    with open(path, "rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise CacheFormatError(f"{path} has over {limit_bytes} bytes")
    return data
