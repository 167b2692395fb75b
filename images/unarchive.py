"""Reading archives of images: OCI layouts in a tar, and what docker save wrote before it wrote those.

The archive may come through a pipe, so it is read once, from front to end. Large files go to the blob store under their
digests, small ones stay in memory; only at the end is it known what they are. What no image wants stays an orphan in
the store until the next prune. Nothing in the archive is believed: digests, sizes, diff IDs and counts are checked.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from core.digests import DiffID, Digest
from core.errors import InvalidReferenceError
from core.platforms import Platform
from core.references import Reference
from images.compression import DecompressingReader
from images.errors import DigestMismatchError, InvalidArchiveError, InvalidLayerError
from images.oci import (
    CONTAINERD_NAME_ANNOTATION,
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_DOCUMENT_BYTES,
    REF_NAME_ANNOTATION,
    Descriptor,
    decode_config,
    decode_index,
    decode_manifest,
)
from images.platforms import is_image
from images.store import Store
from images.summary import Image
from images.tarheaders import FILE, HARDLINK, SYMLINK, normalise
from images.tarreader import TarReader
from images.tarwriter import SupportsRead

_SMALL = 64 * 1024
_ALL_SMALL = 32 * 1024 * 1024
_MAX_NAMES = 100_000
_CHUNK = 256 * 1024
_MAX_NESTING = 4
_BLOBS = "blobs/sha256/"


def load(store: Store, stream: SupportsRead, *, platform: Platform | None = None) -> list[Image]:
    """Put every image of an archive into the store, plain or compressed, and give it the names that it has there.

    platform: which one to take of an image for several. None takes the whole index where the archive has all of it, and
    else this machine's image.

    Returns the images in the archive's order, each with the names that it got from there; of an index the image that
    its names stand for. Raises InvalidArchiveError, DigestMismatchError and other ImagesErrors; images that came before
    a bad one stay.
    """
    archive = _Archive(store)
    try:
        archive.read(stream)
    except InvalidLayerError as error:
        raise InvalidArchiveError(
            f"not an archive of images: {error.message}", hint="docker save and shiplap image save make such archives"
        ) from error
    if "index.json" in archive:
        found = list(_oci_images(archive, platform))
    elif "manifest.json" in archive:
        found = list(_docker_images(archive))
    else:
        raise _not_an_archive(archive)
    return [_put(store, archive, wanted) for wanted in found]


class _Layer(NamedTuple):
    """A layer of an archive.

    name: of the file in the archive.
    expected: what the manifest says about it, for an OCI layer.
    """

    name: str
    expected: Descriptor | None


class _Wanted(NamedTuple):
    """An image of an archive, and what it is to be called.

    manifest: None where the store is to make one.
    document: that of an index of the images ``parts``.
    """

    config: bytes
    layers: tuple[_Layer, ...]
    names: tuple[Reference, ...]
    manifest: bytes | None = None
    document: bytes | None = None
    parts: tuple[_Wanted, ...] = ()
    artifacts: tuple[Descriptor, ...] = ()


class _Archive:
    """The files of an archive by name: bytes, or the digest of a blob in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files: dict[str, bytes | Digest] = {}
        self._links: dict[str, str] = {}
        self._small = 0

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def names(self) -> list[str]:
        return list(self._files)

    def read(self, stream: SupportsRead) -> None:
        decompressed = DecompressingReader(stream)
        reader = TarReader(decompressed)
        for entry in reader:
            name = _text(normalise(entry.name))
            if len(self._files) + len(self._links) > _MAX_NAMES:
                raise InvalidArchiveError(f"the archive has more than {_MAX_NAMES} files")
            self._files.pop(name, None)
            self._links.pop(name, None)
            if entry.kind == FILE:
                self._files[name] = self._keep(name, reader, entry.size)
            elif entry.kind == HARDLINK:
                self._links[name] = _text(normalise(entry.link))
            elif entry.kind == SYMLINK:
                base = b"" if entry.link.startswith(b"/") else name.encode().rpartition(b"/")[0]
                self._links[name] = _text(normalise(base + b"/" + entry.link))
        reader.drain()

    def open(self, name: str) -> BinaryIO:
        """The content of a file, links followed. Raises InvalidArchiveError when it is not there."""
        content = self._content(name)
        return io.BytesIO(content) if isinstance(content, bytes) else self._store.blobs.open(content)

    def document(self, name: str) -> bytes:
        """A JSON document. Raises InvalidArchiveError when it is not there or too large."""
        content = self._content(name)
        if isinstance(content, bytes):
            return content
        if self._store.blobs.size(content) > MAX_DOCUMENT_BYTES:
            raise InvalidArchiveError(f"{name} has more than {MAX_DOCUMENT_BYTES} bytes")
        return self._store.blobs.read(content)

    def blob(self, descriptor: Descriptor) -> bytes:
        """The document that ``descriptor`` tells of, checked. Raises InvalidArchiveError, DigestMismatchError."""
        data = self.document(_blob_name(descriptor.digest))
        if len(data) != descriptor.size or Digest.of(data) != descriptor.digest:
            raise DigestMismatchError(
                f"blob {descriptor.digest} of the archive has {len(data)} bytes of digest {Digest.of(data)}, expected "
                f"{descriptor.size}"
            )
        return data

    def keep_blob(self, descriptor: Descriptor) -> None:
        """Have the blob in the store. Raises InvalidArchiveError, DigestMismatchError."""
        content = self._content(_blob_name(descriptor.digest))
        digest = self._store.blobs.put(content, sync=False) if isinstance(content, bytes) else content
        if digest != descriptor.digest:
            raise DigestMismatchError(f"blob {descriptor.digest} of the archive has the digest {digest}")

    def stored(self, name: str) -> Digest | None:
        """The blob that the file was written to; None of a small one. Raises InvalidArchiveError."""
        content = self._content(name)
        return None if isinstance(content, bytes) else content

    def has(self, name: str) -> bool:
        return self._followed(name) in self._files

    def _keep(self, name: str, reader: TarReader, size: int) -> bytes | Digest:
        if size <= _SMALL and self._small + size <= _ALL_SMALL:
            self._small += size
            return reader.read(size)
        stated = name.removeprefix(_BLOBS)
        expected = Digest.parse(f"sha256:{stated}") if name.startswith(_BLOBS) and _is_hex(stated) else None
        with self._store.blobs.writer(sync=False) as writer:
            while data := reader.read(_CHUNK):
                writer.write(data)
            return writer.commit(expected)

    def _content(self, name: str) -> bytes | Digest:
        try:
            return self._files[self._followed(name)]
        except KeyError:
            raise InvalidArchiveError(
                f"the archive lacks {name}", hint="it may have been cut off, or made by something unusual"
            ) from None

    def _followed(self, name: str) -> str:
        for _ in range(8):
            if name not in self._links:
                break
            name = self._links[name]
        return name


def _put(store: Store, archive: _Archive, wanted: _Wanted) -> Image:
    if wanted.document is not None:
        return _put_index(store, archive, wanted, wanted.document)
    config = decode_config(wanted.config)
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(wanted.layers):
        raise InvalidArchiveError(
            f"image {Digest.of(wanted.config)} has {len(wanted.layers)} layers, but its config lists {len(diff_ids)}"
        )
    for diff_id, layer in zip(diff_ids, wanted.layers, strict=True):
        _put_layer(store, archive, layer, diff_id)
    image = store.images.put(wanted.config, diff_ids, names=wanted.names, manifest=wanted.manifest)
    return image._replace(names=wanted.names)


def _put_index(store: Store, archive: _Archive, wanted: _Wanted, index: bytes) -> Image:
    for part in wanted.parts:
        _put(store, archive, part)
        store.blobs.put(part.manifest or b"", sync=False)  # also where the store has the image with another one
    for blob in wanted.artifacts:
        archive.keep_blob(blob)
    stored = store.images.indexes.put(index, names=wanted.names)
    return store.images.resolve(stored.digest)._replace(names=wanted.names)


def _put_layer(store: Store, archive: _Archive, layer: _Layer, diff_id: DiffID) -> None:
    if not archive.has(layer.name) and store.layers.has(diff_id):
        return  # archives may leave out what the receiver has
    if archive.stored(layer.name) == diff_id:
        return  # plain, and written to its place while the archive was read
    with archive.open(layer.name) as file:
        store.layers.import_compressed(file, diff_id=diff_id, expected=layer.expected, sync=False)


# OCI layouts.


def _oci_images(archive: _Archive, platform: Platform | None) -> Iterator[_Wanted]:
    docker_names: dict[Digest, list[Reference]] = {}
    if "manifest.json" in archive:
        for docker in _docker_images(archive):
            docker_names.setdefault(Digest.of(docker.config), []).extend(docker.names)
    wanted: dict[Digest, _Wanted] = {}
    whole = False
    chosen = platform or Platform.host()
    for top in decode_index(archive.document("index.json")).manifests:
        if platform is None and _is_whole_index(archive, top):
            yield _whole_index(archive, top)
            whole = True
            continue
        descriptor = _for_platform(archive, top, chosen, _MAX_NESTING)
        if descriptor is None:
            continue
        manifest = decode_manifest(archive.blob(descriptor))
        config = archive.blob(manifest.config)
        names = [*_annotated_names(top), *docker_names.get(manifest.config.digest, ())]
        before = wanted.get(descriptor.digest)
        wanted[descriptor.digest] = _Wanted(
            config,
            tuple(_Layer(_blob_name(layer.digest), layer) for layer in manifest.layers),
            tuple(dict.fromkeys((*(before.names if before else ()), *names))),
        )
    if not wanted and not whole:
        raise InvalidArchiveError(f"the archive has no image for {chosen}")
    yield from wanted.values()


def _is_whole_index(archive: _Archive, top: Descriptor) -> bool:
    """Whether it is an index of manifests with an image among them, and the archive has all that they name."""
    if top.media_type not in INDEX_TYPES:
        return False
    entries = decode_index(archive.blob(top)).manifests
    if not any(is_image(entry) for entry in entries) or any(
        entry.media_type not in MANIFEST_TYPES for entry in entries
    ):
        return False
    for entry in entries:
        if not archive.has(_blob_name(entry.digest)):
            return False
        manifest = decode_manifest(archive.blob(entry))
        if not all(archive.has(_blob_name(blob.digest)) for blob in (manifest.config, *manifest.layers)):
            return False
    return True


def _whole_index(archive: _Archive, top: Descriptor) -> _Wanted:
    data = archive.blob(top)
    parts: list[_Wanted] = []
    artifacts: list[Descriptor] = []
    for entry in decode_index(data).manifests:
        document = archive.blob(entry)
        manifest = decode_manifest(document)
        if is_image(entry):
            layers = tuple(_Layer(_blob_name(layer.digest), layer) for layer in manifest.layers)
            parts.append(_Wanted(archive.blob(manifest.config), layers, (), document))
        else:
            artifacts += [entry, manifest.config, *manifest.layers]
    names = tuple(_annotated_names(top))
    return _Wanted(b"", (), names, document=data, parts=tuple(parts), artifacts=tuple(artifacts))


def _for_platform(archive: _Archive, top: Descriptor, platform: Platform, nesting: int) -> Descriptor | None:
    """The image manifest that ``top`` is, or ``platform``'s in the index that it is; None for other things."""
    if top.media_type in MANIFEST_TYPES:
        return top
    if top.media_type not in INDEX_TYPES or not nesting:
        return None
    inside = [
        descriptor
        for descriptor in decode_index(archive.blob(top)).manifests
        if descriptor.platform is None or descriptor.platform.os != "unknown"  # attestations are for "unknown"
    ]
    fitting = [
        descriptor
        for descriptor in inside
        if len(inside) == 1 or (descriptor.platform is not None and descriptor.platform.normalised() == platform)
    ]
    return _for_platform(archive, fitting[0], platform, nesting - 1) if fitting else None


def _annotated_names(descriptor: Descriptor) -> list[Reference]:
    """The names in annotations. containerd and docker write the full name; podman and skopeo use another annotation,
    for a name or a mere tag.
    """
    full = descriptor.annotations.get(CONTAINERD_NAME_ANNOTATION)
    other = descriptor.annotations.get(REF_NAME_ANNOTATION, "")
    text = full or (other if ":" in other or "/" in other else None)
    return [_reference(text)] if text else []


# docker's manifest.json.


def _docker_images(archive: _Archive) -> Iterator[_Wanted]:
    for item in _docker_manifest(archive.document("manifest.json")):
        config = archive.document(item["Config"])
        stated = item["Config"].rpartition("/")[2].removesuffix(".json")
        if _is_hex(stated) and Digest.of(config).hex != stated:
            raise DigestMismatchError(f"config {item['Config']} of the archive has the digest {Digest.of(config)}")
        yield _Wanted(
            config,
            tuple(_Layer(name, None) for name in item["Layers"]),
            tuple(_reference(tag) for tag in item["RepoTags"]),
        )


def _docker_manifest(data: bytes) -> list[dict[str, Any]]:
    """``[{Config, RepoTags, Layers}]``, with the types checked and the names normalised."""
    try:
        items = json.loads(data)
        return [
            {
                "Config": _file_name(item["Config"]),
                "RepoTags": [str(tag) for tag in item.get("RepoTags") or ()],
                "Layers": [_file_name(layer) for layer in item.get("Layers") or ()],
            }
            for item in items
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidLayerError) as error:
        raise InvalidArchiveError(f"the archive's manifest.json cannot be read: {error!r}") from error


def _file_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"expected a file name, got {name!r}")
    return _text(normalise(name.encode()))


def _reference(text: str) -> Reference:
    try:
        return Reference.parse(text).with_default_tag()
    except InvalidReferenceError as error:
        raise InvalidArchiveError(f"the archive has an image of an impossible name: {error.message}") from error


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _is_hex(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _not_an_archive(archive: _Archive) -> InvalidArchiveError:
    names = archive.names()
    hint = None
    if any(name.split("/")[0] in ("etc", "usr", "bin") for name in names):
        hint = "this looks like a root filesystem: shiplap image import makes an image of it"
    elif "repositories" in names:
        hint = "it was made by docker before 1.10: docker load and docker save it again with a newer one"
    return InvalidArchiveError("not an archive of images: it has no index.json and no manifest.json", hint=hint)
