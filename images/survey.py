"""What one must know of a layer's tar before indexing it in place: a scan of its headers alone, 2 µs an entry.

It parses as little as it can: ``tarreader`` is the one that reads tars for their content.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from core.cancellation import check
from images.errors import InvalidLayerError
from images.tarheaders import (
    BLOCK,
    CHARACTER_DEVICE,
    DIRECTORY,
    HARDLINK,
    MAX_METADATA_BYTES,
    MAX_SIZE_BYTES,
    SPARSE_KEY,
    SYMLINK,
    XATTR_KEY,
    header_name,
    normalise,
    number,
    pax_records,
    plain,
    too_big,
)
from images.whiteouts import METADATA_PREFIX, OPAQUE_NAME, WHITEOUT_PREFIX

MAX_XATTR_NAME_BYTES: Final = 255
"""Linux, XATTR_NAME_MAX."""

_ZEROS: Final = bytes(BLOCK)
_WITH_CONTENT: Final = frozenset(b"\x0007SxXgLK")  # the sizes of other types mean nothing
_LINK, _SYMLINK, _CHARACTER, _DIRECTORY = (kind[0] for kind in (HARDLINK, SYMLINK, CHARACTER_DEVICE, DIRECTORY))
_PLAIN: Final = frozenset(b"\x0001234567")
_UNUSUAL_KEYS: Final = (SPARSE_KEY, b"SCHILY.xattr.user.overlay.", b"SCHILY.xattr.trusted.", b"LIBARCHIVE.")
_MAX_IMPLIED_BYTES: Final = 64 << 20
_ASK_EACH: Final = 256  # entries


class Survey(NamedTuple):
    """What a layer's tar has in it, as far as unpacking has to know ahead.

    entries: number of files, links and so on.
    implied: directories that have entries below them but none of their own (not the root), each with the mtime of the
    first entry below it.
    marks: has whiteouts or opaque directories.
    has_root: has an entry for the root directory.
    unusual: why ``mkfs.erofs`` 1.8 would get this tar wrong, or None.
    """

    entries: int
    implied: dict[bytes, int]
    marks: bool
    has_root: bool
    unusual: str | None


class ImpliedBytes:
    """Keeps count of the paths of directories that a tar implies: each of its entries can imply two thousand.

    A megabyte of tar would otherwise take a gigabyte of memory here, another one in mkfs.erofs, and as many inodes.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _MAX_IMPLIED_BYTES

    def add(self, path: bytes) -> None:
        """Count one more. Raises InvalidLayerError when they are too many."""
        self._left -= len(path) + 1
        if self._left < 0:
            raise InvalidLayerError(
                f"the layer implies directories whose paths have more than {_MAX_IMPLIED_BYTES} bytes together"
            )


class _UnusualError(Exception):
    """This tar is not for mkfs.erofs."""


def survey(path: str) -> Survey:
    """Scan the tar at ``path``. Raises InvalidLayerError when an entry's name leads outside the root."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _survey(fd)
    except _UnusualError as reason:
        return Survey(1, {}, False, False, str(reason))
    finally:
        os.close(fd)


def _survey(fd: int) -> Survey:
    entries = 0
    directories = {b""}
    implied: dict[bytes, int] = {}
    implied_bytes = ImpliedBytes()
    links: set[bytes] = set()
    hidden: set[bytes] = set()
    opaque = has_root = False
    last_parent = b""
    for name, kind, header in _entries(fd):
        entries += 1
        if not entries % _ASK_EACH:
            check()
        parent, _, base = name.rpartition(b"/")
        if parent != last_parent:
            last_parent = parent
            above = parent
            while above not in directories and above not in implied:
                implied_bytes.add(above)
                implied[above] = max(0, number(header[136:148], signed=True))
                above = above.rpartition(b"/")[0]
        if kind == _CHARACTER and not number(header[329:337]) and not number(header[337:345]):
            raise _UnusualError(f"a device {os.fsdecode(name)!r} that overlayfs takes for a whiteout")
        if kind == _DIRECTORY:
            directories.add(name)
            has_root = has_root or not name
        elif kind == _SYMLINK:
            links.add(name)
        if base.startswith(WHITEOUT_PREFIX):
            if base == OPAQUE_NAME and last_parent:
                opaque = True
            elif base.startswith(METADATA_PREFIX) or base == WHITEOUT_PREFIX or kind == _LINK:
                raise _UnusualError(f"a special entry {os.fsdecode(name)!r}")
            else:
                hidden.add(
                    f"{os.fsdecode(last_parent)}/{os.fsdecode(base[4:])}".lstrip("/").encode(errors="surrogateescape")
                )
    for directory in directories:
        implied.pop(directory, None)
    if not links.isdisjoint(implied):
        raise _UnusualError("entries below a symbolic link")
    if hidden and (not hidden.isdisjoint(implied) or any(name in hidden for name, _, _ in _entries(fd))):
        raise _UnusualError("an entry and its whiteout in one layer")
    return Survey(entries, implied, opaque or bool(hidden), has_root, None)


def _entries(fd: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Normalised name, type and header of each entry. Raises _UnusualError."""
    offset = 0
    long_name: bytes | None = None
    long_size: int | None = None
    while True:
        header = os.pread(fd, BLOCK, offset)
        if len(header) < BLOCK or header == _ZEROS:
            return
        kind = header[156]
        size = number(header[124:136]) if kind in _WITH_CONTENT else 0
        offset += BLOCK
        if kind in b"xL":
            if size > MAX_METADATA_BYTES:
                raise _UnusualError("an extended header of over a megabyte")
            data = os.pread(fd, size, offset)
            if kind == 0x4C:
                long_name = data.rstrip(b"\0")
            else:
                path, content = _extended(data)
                long_name = path if path is not None else long_name
                long_size = content if content is not None else long_size
        elif kind in _PLAIN:
            yield _normalised(header_name(header) if long_name is None else long_name), kind, header
            if long_size is not None and kind in _WITH_CONTENT:
                size = long_size
            long_name = long_size = None
        elif kind != 0x4B:  # a long link target says nothing here
            raise _UnusualError(f"an entry of type {chr(kind)!r}")
        if size > MAX_SIZE_BYTES:
            raise too_big(size)
        offset += size + -size % BLOCK


def _extended(data: bytes) -> tuple[bytes | None, int | None]:
    """Path and size from a PAX header. Raises _UnusualError for records that change what the content is."""
    path: bytes | None = None
    size: int | None = None
    for key, value in pax_records(data):
        if key == b"path":
            path = value
        elif key == b"size":
            size = plain(value) if value else None
        elif key.startswith(_UNUSUAL_KEYS):
            raise _UnusualError(f"a record {os.fsdecode(key)!r}")
        elif key.startswith(XATTR_KEY) and len(key) - len(XATTR_KEY) > MAX_XATTR_NAME_BYTES:
            raise _UnusualError("an extended attribute with too long a name")  # mkfs.erofs would write a broken image
    return path, size


def _normalised(name: bytes) -> bytes:
    name = name.removeprefix(b"./").rstrip(b"/")
    if name.startswith((b"/", b".")) or b"/." in name or b"//" in name:
        return normalise(name)
    return name
