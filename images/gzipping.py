"""gzip by ISA-L, with what does not compress stored as it is.

ISA-L's fast levels make Huffman codes of random bytes, too: they get no smaller, and whoever reads the layer decodes
them at half a gigabyte a second. Archives, pictures and packages in layers are such bytes. Stored blocks are copied.

The stream is cut into pieces of a fixed size, so the result depends on the content alone, and not on how it came.
Spec: RFC 1951, 3.2.4 (stored blocks); RFC 1952 (the member around them).
"""

from __future__ import annotations

import struct
from typing import Final

from isal import igzip_lib, isal_zlib

VERSION: Final = 1
"""Another one for each change here that makes other bytes of the same content."""

_PIECE_BYTES: Final = 256 << 10
_SAMPLE_BYTES: Final = 8 << 10
_SAMPLES: Final = 3  # of a piece: its beginning, its middle, its end
_INCOMPRESSIBLE: Final = 0.97  # the part of its size that a sample has when compressed
_BLOCK_BYTES: Final = 0xFFFF

_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, no system
_BLOCK: Final = struct.Struct("<BHH")
_TRAILER: Final = struct.Struct("<II")


class Gzip:
    """One gzip member in the making. level: ISA-L's, 0 to 3.

    Bytes that all compress are the same member as ISA-L makes of them by itself.
    """

    def __init__(self, level: int) -> None:
        self._deflate = isal_zlib.compressobj(level, isal_zlib.DEFLATED, -15)
        self._gathered = bytearray()
        self._checksum = 0
        self._length = 0
        self._is_amid = False  # the compressor holds back some bits
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        """What can be written by now, after ``data``."""
        parts: list[bytes | memoryview] = self._head()
        view = memoryview(data)
        if self._gathered:
            missing = _PIECE_BYTES - len(self._gathered)
            self._gathered += view[:missing]
            view = view[missing:]
            if len(self._gathered) < _PIECE_BYTES:
                return b"".join(parts)
            self._add(memoryview(bytes(self._gathered)), parts)
            self._gathered.clear()
        while len(view) >= _PIECE_BYTES:
            self._add(view[:_PIECE_BYTES], parts)
            view = view[_PIECE_BYTES:]
        self._gathered += view
        return b"".join(parts)

    def flush(self) -> bytes:
        """The rest of the member."""
        parts: list[bytes | memoryview] = self._head()
        if self._gathered:
            self._add(memoryview(bytes(self._gathered)), parts)
        parts += (self._deflate.flush(), _TRAILER.pack(self._checksum, self._length & 0xFFFFFFFF))
        return b"".join(parts)

    def _head(self) -> list[bytes | memoryview]:
        if self._begun:
            return []
        self._begun = True
        return [_HEADER]

    def _add(self, piece: memoryview, parts: list[bytes | memoryview]) -> None:
        self._checksum = isal_zlib.crc32(piece, self._checksum)
        self._length += len(piece)
        if not _is_incompressible(piece):
            parts.append(self._deflate.compress(piece))
            self._is_amid = True
            return
        if self._is_amid:  # up to a whole byte; and what follows refers to nothing from before
            parts.append(self._deflate.flush(isal_zlib.Z_FULL_FLUSH))
            self._is_amid = False
        for at in range(0, len(piece), _BLOCK_BYTES):
            stored = piece[at : at + _BLOCK_BYTES]
            parts += (_BLOCK.pack(0, len(stored), len(stored) ^ 0xFFFF), stored)


def _is_incompressible(piece: memoryview) -> bool:
    """Guessed by some samples: a few, of which most are decided by the first one."""
    last = len(piece) - _SAMPLE_BYTES
    if last < _SAMPLE_BYTES:
        return False
    for number in range(_SAMPLES):
        start = last * number // (_SAMPLES - 1)
        sample = piece[start : start + _SAMPLE_BYTES]
        if len(igzip_lib.compress(sample, 0, igzip_lib.COMP_DEFLATE)) < _INCOMPRESSIBLE * _SAMPLE_BYTES:
            return False
    return True
