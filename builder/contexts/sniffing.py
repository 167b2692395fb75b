"""Tells a tar from text by the first bytes of a stream from elsewhere."""

from __future__ import annotations

from typing import Final

_TAR_MAGIC: Final = ((257, b"ustar"), (0, b"\x1f\x8b"), (0, b"\x28\xb5\x2f\xfd"), (0, b"\xfd7zXZ\x00"), (0, b"BZh"))
"""Offset and magic bytes of a tar: plain, or compressed with gzip, zstd, xz or bzip2."""


def looks_like_a_tar(head: bytes) -> bool:
    """Whether a stream that begins so is a tar. head: its first 512 bytes, fewer when it is shorter."""
    return any(head[offset : offset + len(magic)] == magic for offset, magic in _TAR_MAGIC)
