"""What one must know of a layer's tar before indexing it in place: a scan of its headers alone, 2 µs an entry.

It parses as little as it can: ``tarreader`` is the one that reads tars for their content.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from core.cancellation import check
from images.errors import InvalidLayerError

MAX_XATTR_NAME_BYTES: Final = 255
"""Linux, XATTR_NAME_MAX."""

_ZEROS: Final = bytes(512)
_XATTR: Final = b"SCHILY.xattr."
_WITH_CONTENT: Final = frozenset(b"\x0007SxXgLK")  # the sizes of other types mean nothing
_LINK, _SYMLINK, _CHARACTER, _DIRECTORY = b"1235"
_PLAIN: Final = frozenset(b"\x0001234567")
_TRAILING: Final = b"\0 "
_MAX_EXTENDED: Final = 1 << 20
_MAX_IMPLIED_BYTES: Final = 64 << 20
_ASK_EACH: Final = 256  # entries


class Survey(NamedTuple):
    """entries: number of files, links and so on. implied: directories that have entries below them but none of their
    own (not the root), each with the mtime of the first entry below it. marks: has whiteouts or opaque directories.
    has_root: has an entry for the root directory. unusual: why ``mkfs.erofs`` 1.8 would get this tar wrong, or None.
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
                implied[above] = _octal(header[136:148])
                above = above.rpartition(b"/")[0]
        if kind == _CHARACTER and not _octal(header[329:337]) and not _octal(header[337:345]):
            raise _UnusualError(f"a device {os.fsdecode(name)!r} that overlayfs takes for a whiteout")
        if kind == _DIRECTORY:
            directories.add(name)
            has_root = has_root or not name
        elif kind == _SYMLINK:
            links.add(name)
        if base.startswith(b".wh."):
            if base == b".wh..wh..opq" and last_parent:
                opaque = True
            elif base.startswith(b".wh..wh.") or base == b".wh." or kind == _LINK:
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
        header = os.pread(fd, 512, offset)
        if len(header) < 512 or header == _ZEROS:
            return
        kind = header[156]
        size = _octal(header[124:136]) if kind in _WITH_CONTENT else 0
        offset += 512
        if kind in b"xL":
            if size > _MAX_EXTENDED:
                raise _UnusualError("an extended header of over a megabyte")
            data = os.pread(fd, size, offset)
            if kind == 0x4C:
                long_name = data.rstrip(b"\0")
            else:
                path, content = _extended(data)
                long_name = path if path is not None else long_name
                long_size = content if content is not None else long_size
        elif kind in _PLAIN:
            yield _name(header) if long_name is None else _normalised(long_name), kind, header
            if long_size is not None and kind in _WITH_CONTENT:
                size = long_size
            long_name = long_size = None
        elif kind != 0x4B:  # a long link target says nothing here
            raise _UnusualError(f"an entry of type {chr(kind)!r}")
        offset += size + -size % 512


def _extended(data: bytes) -> tuple[bytes | None, int | None]:
    """Path and size from a PAX header. Raises _UnusualError for records that change what the content is."""
    path: bytes | None = None
    size: int | None = None
    at = 0
    while at < len(data) and data[at]:
        digits, _, _ = data[at : at + 20].partition(b" ")
        if not digits.isdigit() or not int(digits):
            raise _UnusualError("a damaged extended header")
        key, _, value = data[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        at += int(digits)
        if key == b"path":
            path = value
        elif key == b"size":
            size = int(value) if value.isdigit() else 0
        elif key.startswith((b"GNU.sparse.", b"SCHILY.xattr.user.overlay.", b"SCHILY.xattr.trusted.", b"LIBARCHIVE.")):
            raise _UnusualError(f"a record {os.fsdecode(key)!r}")
        elif key.startswith(_XATTR) and len(key) - len(_XATTR) > MAX_XATTR_NAME_BYTES:
            raise _UnusualError("an extended attribute with too long a name")  # mkfs.erofs would write a broken image
    return path, size


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[345] and header[257:263] == b"ustar\0":
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    return _normalised(name)


def _normalised(name: bytes) -> bytes:
    name = name.removeprefix(b"./").rstrip(b"/")
    if name.startswith((b"/", b".")) or b"/." in name or b"//" in name:
        from images.tarreader import normalise

        return normalise(name)
    return name


def _octal(field: bytes) -> int:
    if field[0] & 0x80:
        number = int.from_bytes(field[1:], "big")
        if field[0] != 0x80 or number >= 1 << 62:
            return 0 if field[0] == 0xFF else _damaged(field)
        return number
    try:
        return int(field.strip(_TRAILING) or b"0", 8)
    except ValueError:
        return _damaged(field)


def _damaged(field: bytes) -> int:
    raise InvalidLayerError(f"damaged tar: {field!r} where a number belongs")
