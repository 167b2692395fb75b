"""Documents found without the database: manifests, indexes and configs among ``blobs/``, and what they name.

A killed process leaves few files without a row: at most one that it was just moving into place, and those that it was
just removing. ``images/collect.py`` keeps a list of the latter. If a manifest and its config both have no row, and are
not on that list, they were an image once. Then the database is not what it was: it is an older copy, or a new one. Such
files are for ``images/rebuild.py``, and not for a prune.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from core.digests import Digest
from images.errors import InvalidDocumentError
from images.oci import MAX_DOCUMENT_BYTES, ImageConfig, Index, Manifest, decode_config, decode_index, decode_manifest

_SHORTEST_BYTES: Final = 2
_T = TypeVar("_T")


@dataclass(slots=True)
class Documents:
    """Documents by digest. Their bytes have the digest that their files are named for.

    configs: of images, with the bytes.
    manifests: of images and artifacts, with the bytes.
    indexes: with the bytes.
    """

    configs: dict[Digest, tuple[ImageConfig, bytes]] = field(default_factory=dict)
    manifests: dict[Digest, tuple[Manifest, bytes]] = field(default_factory=dict)
    indexes: dict[Digest, tuple[Index, bytes]] = field(default_factory=dict)


def read_documents(directory: str, digests: Iterable[str]) -> Documents:
    """Read the documents among these blobs. directory: ``blobs/sha256``."""
    found = Documents()
    for name in digests:
        digest = Digest(name)
        data = _small_json(f"{directory}/{digest.hex}")
        if data is None or Digest.of(data) != digest:
            continue
        if (manifest := _decoded(decode_manifest, data)) is not None:
            found.manifests[digest] = manifest, data
        elif (index := _decoded(decode_index, data)) is not None:
            found.indexes[digest] = index, data
        elif (config := _decoded(decode_config, data)) is not None:
            found.configs[digest] = config, data
    return found


def of_unknown_images(directory: str, orphans: Iterable[str]) -> set[str]:
    """Those files without a row that belong to images that the database has lost.

    orphans: the digests of the files without a row.
    """
    left = set(orphans)
    if not left:
        return set()
    documents = read_documents(directory, left)
    lost: set[str] = set()
    for digest, (manifest, _) in documents.manifests.items():
        if manifest.config.digest in left:
            lost |= {digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}
            if (config := documents.configs.get(manifest.config.digest)) is not None:
                lost |= set(config[0].rootfs.diff_ids)
    for digest, (index, _) in documents.indexes.items():
        if any(entry.digest in lost for entry in index.manifests):
            lost.add(digest)
    return lost & left


def blob_names(directory: str) -> list[str]:
    """The digests that files in ``blobs/sha256`` are named for; what is named otherwise is not Shiplap's."""
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries]
    return [f"sha256:{name}" for name in names if len(name) == 64 and not set(name) - set("0123456789abcdef")]


def _small_json(path: str) -> bytes | None:
    """The content of a file that may be a document."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not _SHORTEST_BYTES <= os.fstat(fd).st_size <= MAX_DOCUMENT_BYTES or os.pread(fd, 1, 0) != b"{":
            return None
        with open(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)


def _decoded(decode: Callable[[bytes], _T], data: bytes) -> _T | None:
    try:
        return decode(data)
    except InvalidDocumentError:
        return None
