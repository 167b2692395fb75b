"""git's index as bytes: what it has to know of files so that it need not read one to see that nothing changed.

Source: Documentation/gitformat-index.txt, version 2.
"""

from __future__ import annotations

import hashlib
import struct
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

_HEAD: Final = struct.Struct(">4sII")
_STAT: Final = struct.Struct(">10I")
_MTIME_AT: Final = 8
_TIME: Final = struct.Struct(">I")
_NO_TIME: Final = bytes(_TIME.size)
_FLAGS: Final = struct.Struct(">H")
_LONGEST_NAME: Final = 0xFFF
_ALIGNED: Final = 8
_PADDING: Final = tuple(bytes(_ALIGNED - length) for length in range(_ALIGNED))  # at least one NUL ends a path
_MAX_SIZE: Final = 0xFFFFFFFF
_AS_IF: Final = 0x80000000  # what git notes for a size whose lower 32 bits are all 0
_MODES: Final = {b"100755": 0o100755, b"120000": 0o120000, b"160000": 0o160000}


def index_of(
    entries: Iterable[tuple[bytes, bytes, bytes]], sizes: Mapping[bytes, int], mtime: int, object_format: str
) -> bytes:
    """The index of these.

    entries: path, mode as a tree has it, and ID in hexadecimal.
    sizes: by path, of the files of which git need not look at one: bytes in the working tree.
    mtime: of these files, in seconds since the epoch.
    It holds with ``core.checkStat=minimal``, and only where the index itself is younger than the files.
    """
    return _index(
        [entry_of(path, mode, oid, sizes.get(path), mtime) for path, mode, oid in sorted(entries)], object_format
    )


def entry_of(path: bytes, mode: bytes, oid: bytes, size: int | None, mtime: int) -> bytes:
    """The entry of one file, as for ``index_of``. size: None: git has to look at the file."""
    kept = _MODES.get(mode, 0o100644)
    if size is None:
        stat = _STAT.pack(0, 0, 0, 0, 0, 0, kept, 0, 0, 0)
    else:
        stat = _STAT.pack(0, 0, mtime, 0, 0, 0, kept, 0, 0, size & _MAX_SIZE or (size and _AS_IF))
    entry = stat + unhexlify(oid) + _FLAGS.pack(min(len(path), _LONGEST_NAME)) + path
    return entry + _PADDING[len(entry) % _ALIGNED]


def patched(index: bytes, entries: Mapping[bytes, bytes], object_format: str) -> bytes:
    """An index of ``index_of``'s with other entries for some paths. entries: by path; empty: the path goes."""
    kept = {path: index[start:end] for path, start, end in _entries(index, object_format)}
    kept |= entries
    return _index([entry for _, entry in sorted(kept.items()) if entry], object_format)


def retimed(index: bytes, mtime: int, object_format: str) -> bytes:
    """An index of ``index_of``'s for files with another time, in seconds since the epoch."""
    data = bytearray(index)
    for _, at, _ in _entries(index, object_format):
        if index[at + _MTIME_AT : at + _MTIME_AT + _TIME.size] != _NO_TIME:
            _TIME.pack_into(data, at + _MTIME_AT, mtime)
    content = data[: -hashlib.new(object_format, usedforsecurity=False).digest_size]
    return bytes(content) + hashlib.new(object_format, content, usedforsecurity=False).digest()


def _entries(index: bytes, object_format: str) -> Iterator[tuple[bytes, int, int]]:
    """Each entry's path, where it begins, and where the next one does."""
    _, _, count = _HEAD.unpack_from(index)
    named = _STAT.size + hashlib.new(object_format, usedforsecurity=False).digest_size + _FLAGS.size
    at = _HEAD.size
    for _ in range(count):
        start = at + named
        length = (index[start - 2] << 8 | index[start - 1]) & _LONGEST_NAME
        end = start + length if length < _LONGEST_NAME else index.index(b"\0", start + length)
        next_at = at + (end - at + _ALIGNED) // _ALIGNED * _ALIGNED
        yield index[start:end], at, next_at
        at = next_at


def _index(entries: Sequence[bytes], object_format: str) -> bytes:
    data = _HEAD.pack(b"DIRC", 2, len(entries)) + b"".join(entries)
    return data + hashlib.new(object_format, data, usedforsecurity=False).digest()
