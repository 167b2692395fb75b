"""git's index as bytes: what it has to know of files so that it need not read one to see that nothing changed.

Source: Documentation/gitformat-index.txt, version 2.
"""

from __future__ import annotations

import hashlib
import struct
from binascii import unhexlify
from collections.abc import Iterable, Mapping
from typing import Final

_HEAD: Final = struct.Struct(">4sII")
_STAT: Final = struct.Struct(">10I")
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
    parts = []
    pack, flags = _STAT.pack, _FLAGS.pack
    for path, mode, oid in sorted(entries):
        size = sizes.get(path)
        kept = _MODES.get(mode, 0o100644)
        if size is None:
            stat = pack(0, 0, 0, 0, 0, 0, kept, 0, 0, 0)
        else:
            stat = pack(0, 0, mtime, 0, 0, 0, kept, 0, 0, size & _MAX_SIZE or (size and _AS_IF))
        entry = stat + unhexlify(oid) + flags(min(len(path), _LONGEST_NAME)) + path
        parts.append(entry + _PADDING[len(entry) % _ALIGNED])
    data = _HEAD.pack(b"DIRC", 2, len(parts)) + b"".join(parts)
    return data + hashlib.new(object_format, data, usedforsecurity=False).digest()
