"""What a layer says of each path, content by its digest: read from the tar once, and kept in the store.

A listing is a memo of content, so it is true of the layer wherever it is. Paths are text as ``os.fsdecode`` makes it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from core.digests import DiffID
from images.errors import InvalidLayerError
from images.records import OF_LAYERS
from images.store import Store
from images.tarheaders import DIRECTORY, FILE, HARDLINK, SYMLINK, normalise
from images.tarreader import DEVICE_TYPES, TarEntry, TarReader
from images.whiteouts import OPAQUE_NAME, WHITEOUT_PREFIX, hidden_name

_MEMO: Final = OF_LAYERS[1]
_TYPES: Final = {FILE: stat.S_IFREG, DIRECTORY: stat.S_IFDIR, SYMLINK: stat.S_IFLNK, **DEVICE_TYPES}
_DIRECTORY: Final = f"{stat.S_IFDIR:o}"[:-4]
_FIELDS: Final = 4

File: TypeAlias = tuple[str, str, str]
"""All that a job sees of a file but its path: ``"mode uid:gid"`` with the mode as ``st_mode`` has it, in octal; the
digest of its content, or a link's target; and, where there are any, attributes and what else has the same inode."""

IMPLIED: Final[File] = ("40755 0:0", "", "")
"""A directory without an entry."""


class Listing(NamedTuple):
    """A layer. None of the paths is the root.

    files: by path, in the order of the tar.
    removed: paths that are hidden, with all below them.
    emptied: directories of which all that was in them is hidden.
    """

    files: dict[str, File]
    removed: list[str]
    emptied: list[str]


def is_directory(file: File) -> bool:
    return file[0].startswith(_DIRECTORY) and len(file[0].partition(" ")[0]) == len(_DIRECTORY) + 4


def permissions(file: File) -> int:
    """The mode without the type."""
    return int(file[0].partition(" ")[0], 8) & 0o7777


def listing_of(store: Store, diff_id: DiffID) -> Listing:
    """The listing of a layer. Raises MissingBlobError, DamagedBlobError, InvalidLayerError."""
    data = store.cache.memo_get(_MEMO, diff_id)
    if data is not None:
        return _unpack(data)
    with store.layers.open_checked((diff_id,)) as (tar,):
        listing = _read(TarReader(tar, seekable=True))
    store.cache.memo_put(_MEMO, diff_id, _pack(listing))
    return listing


def _read(reader: TarReader) -> Listing:
    listing = Listing({}, [], [])
    names: dict[str, list[str]] = {}  # of files with several, by the first
    for entry in reader:
        path = os.fsdecode(normalise(entry.name))
        parent, _, base = normalise(entry.name).rpartition(b"/")
        if base.startswith(WHITEOUT_PREFIX):
            hidden = hidden_name(base)
            if hidden:
                listing.removed.append(os.fsdecode(parent + b"/" + hidden if parent else hidden))
            elif base == OPAQUE_NAME:
                listing.emptied.append(os.fsdecode(parent))
        elif entry.kind == HARDLINK:
            first = os.fsdecode(normalise(entry.link))
            if first not in listing.files:
                raise InvalidLayerError(
                    f"the layer has a hard link to a file that it does not have: {path!r} to {first!r}"
                )
            listing.files[path] = listing.files[first]
            names.setdefault(first, [first]).append(path)
        elif path:
            listing.files[path] = _file(entry, reader)
    for first, others in names.items():
        for path in others:
            mode, what, more = listing.files[path]
            listing.files[path] = mode, what, f"{more} one of {len(others)} names of {first}"
    return listing


def _file(entry: TarEntry, reader: TarReader) -> File:
    what = str(entry.rdev) if entry.rdev else os.fsdecode(entry.link) if entry.kind == SYMLINK else ""
    if entry.kind == FILE:
        digest = hashlib.sha256()
        while data := reader.read(1 << 18):
            digest.update(data)
        what = digest.hexdigest()
    more = " ".join(f"{name}={value.hex()}" for name, value in sorted(entry.xattrs.items()))
    return f"{_TYPES[entry.kind] | entry.mode:o} {entry.uid}:{entry.gid}", what, more


def _pack(listing: Listing) -> bytes:
    """No field has a NUL. Compressed to half, mostly digests."""
    import msgspec
    from isal import isal_zlib

    files = "\0".join(field for path, file in listing.files.items() for field in (path, *file))
    parts = [os.fsencode(part) for part in (files, "\0".join(listing.removed), "\0".join(listing.emptied))]
    return isal_zlib.compress(msgspec.msgpack.encode(parts), 1)


def _unpack(data: bytes) -> Listing:
    import msgspec
    from isal import isal_zlib

    files, removed, emptied = (
        _fields(part) for part in msgspec.msgpack.decode(isal_zlib.decompress(data), type=list[bytes])
    )
    return Listing(dict(zip(files[::_FIELDS], _in_threes(files), strict=True)), removed, emptied)


def _in_threes(fields: list[str]) -> Iterable[File]:
    return zip(fields[1::_FIELDS], fields[2::_FIELDS], fields[3::_FIELDS], strict=True)


def _fields(data: bytes) -> list[str]:
    return os.fsdecode(data).split("\0") if data else []
