"""Reading one image of an OCI layout in a directory. Nothing in it is believed; links out of it are not followed."""

from __future__ import annotations

import os
from pathlib import Path

from core.digests import Digest
from core.kernel import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from core.platforms import Platform
from images.errors import DigestMismatchError, ImageNotFoundError, InvalidArchiveError
from images.layout import blob_name
from images.oci import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_DOCUMENT_BYTES,
    REF_NAME_ANNOTATION,
    Descriptor,
    decode_config,
    decode_index,
    decode_manifest,
)
from images.store import Store
from images.summary import Image

_MAX_NESTING = 4
_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS


def read_layout(store: Store, directory: Path, *, tag: str = "", digest: str = "", platform: Platform) -> Image:
    """Put an image of the layout into the store, without a name.

    tag: as the layout's index annotates it; empty: ``latest``, or the only one.
    digest: of a manifest or an index, in place of a tag.
    platform: which one to take of an image for several.
    Raises ImageNotFoundError, InvalidArchiveError, DigestMismatchError.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidArchiveError(f"cannot open the OCI layout {directory}: {error.strerror}") from error
    try:
        return _Layout(store, directory, fd).image(tag, digest, platform)
    finally:
        os.close(fd)


class _Layout:
    """An opened directory."""

    def __init__(self, store: Store, directory: Path, fd: int) -> None:
        self._store = store
        self._directory = directory
        self._fd = fd

    def image(self, tag: str, digest: str, platform: Platform) -> Image:
        top = self._top(tag, digest)
        descriptor = self._for_platform(top, platform, _MAX_NESTING)
        if descriptor is None:
            raise ImageNotFoundError(f"{self._directory} has no image for {platform}")
        manifest_data = self._blob(descriptor)
        manifest = decode_manifest(manifest_data)
        config = self._blob(manifest.config)
        diff_ids = decode_config(config).rootfs.diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise InvalidArchiveError(
                f"{self._directory}: the image has {len(manifest.layers)} layers, but its config lists {len(diff_ids)}"
            )
        for diff_id, layer in zip(diff_ids, manifest.layers, strict=True):
            if not self._store.layers.has(diff_id):
                with open(self._open(blob_name(layer.digest)), "rb") as file:
                    self._store.layers.import_compressed(file, diff_id=diff_id, expected=layer, sync=False)
        return self._store.images.put(config, diff_ids)

    def _top(self, tag: str, digest: str) -> Descriptor:
        listed = decode_index(self._document("index.json")).manifests
        if digest:
            found = [descriptor for descriptor in listed if descriptor.digest == digest]
        else:
            found = [each for each in listed if each.annotations.get(REF_NAME_ANNOTATION) == (tag or "latest")]
            if not tag and not found and len(listed) == 1:
                found = list(listed)
        if not found:
            tags = sorted(filter(None, (each.annotations.get(REF_NAME_ANNOTATION, "") for each in listed)))
            raise ImageNotFoundError(
                f"the OCI layout {self._directory} has no image {digest or tag or 'latest'}",
                hint=f"it has {', '.join(tags)}" if tags else "name one by its digest: oci-layout://DIRECTORY@sha256:…",
            )
        return found[0]

    def _for_platform(self, top: Descriptor, platform: Platform, nesting: int) -> Descriptor | None:
        """The image manifest that ``top`` is, or the one for ``platform`` in the index that it is."""
        if top.media_type in MANIFEST_TYPES:
            return top
        if top.media_type not in INDEX_TYPES or not nesting:
            return None
        inside = decode_index(self._blob(top)).manifests
        images = [each for each in inside if each.platform is None or each.platform.os != "unknown"]
        fitting = [each for each in images if each.platform is not None and each.platform.normalised() == platform]
        chosen = images if len(images) == 1 else fitting
        return self._for_platform(chosen[0], platform, nesting - 1) if chosen else None

    def _blob(self, descriptor: Descriptor) -> bytes:
        data = self._document(blob_name(descriptor.digest))
        if len(data) != descriptor.size or Digest.of(data) != descriptor.digest:
            raise DigestMismatchError(
                f"{self._directory}: blob {descriptor.digest} has {len(data)} bytes of digest {Digest.of(data)}"
            )
        return data

    def _document(self, name: str) -> bytes:
        with open(self._open(name), "rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise InvalidArchiveError(f"{self._directory}/{name} has more than {MAX_DOCUMENT_BYTES} bytes")
        return data

    def _open(self, name: str) -> int:
        try:
            return openat2(self._fd, name, os.O_RDONLY | os.O_NONBLOCK, resolve=_RESOLVE)
        except OSError as error:
            raise InvalidArchiveError(
                f"cannot read {name} of the OCI layout {self._directory}: {error.strerror}",
                hint="an OCI layout is a directory with index.json and blobs",
            ) from error
