"""git's index as bytes: what it has to know of files so that it need not read one to see that nothing changed.

Source: Documentation/gitformat-index.txt, version 2.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct(">4sII")
_STAT: Final = struct.Struct(">10I")
_FLAGS: Final = struct.Struct(">H")
_LONGEST_NAME: Final = 0xFFF
_ALIGNED: Final = 8
_MAX_SIZE: Final = 0xFFFFFFFF


class IndexEntry(NamedTuple):
    """A file of the index.

    mode: as in a tree. id: in hexadecimal.
    size: bytes in the working tree; None: git has to look at the file itself.
    """

    path: bytes
    mode: int
    id: bytes
    size: int | None


def index_of(entries: Iterable[IndexEntry], mtime: int) -> bytes:
    """The index of these. mtime: of all files whose size is told, seconds since the epoch.

    It holds with ``core.checkStat=minimal``, and only where the index itself is younger than that.
    """
    parts = []
    digest = hashlib.sha1
    for path, mode, oid, size in sorted(entries):
        known = (0, 0, mtime, 0, 0, 0, mode, 0, 0, size & _MAX_SIZE) if size is not None else (0,) * 6 + (mode, 0, 0, 0)
        name = bytes.fromhex(oid.decode())
        digest = hashlib.sha1 if len(name) == 20 else hashlib.sha256
        entry = _STAT.pack(*known) + name + _FLAGS.pack(min(len(path), _LONGEST_NAME)) + path
        parts.append(entry + bytes(_ALIGNED - len(entry) % _ALIGNED))
    data = _HEAD.pack(b"DIRC", 2, len(parts)) + b"".join(parts)
    return data + digest(data, usedforsecurity=False).digest()
