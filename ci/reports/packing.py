"""Reports as few bytes: for what is kept of a job, and for the database of a service."""

from __future__ import annotations

import zlib
from typing import Final, TypeVar

import msgspec

from ci.reports.model import Reports

_MOST_BYTES: Final = 64 << 20
"""Unpacked; what a job may report is less."""

_decoder: Final = msgspec.msgpack.Decoder(Reports)
_Kept = TypeVar("_Kept")


def packed(reports: Reports | None) -> bytes:
    """Empty for none."""
    return b"" if reports is None else zlib.compress(msgspec.msgpack.encode(reports), 6)


def unpacked(data: bytes) -> Reports | None:
    """What was packed. None for empty, and for what another version wrote that this one does not know."""
    return inflated(data, _decoder)


def inflated(data: bytes | None, decoder: msgspec.msgpack.Decoder[_Kept]) -> _Kept | None:
    """What was packed in the same way, of another kind. None for nothing, and for what ``decoder`` does not know."""
    if not data:
        return None
    try:
        inflater = zlib.decompressobj()
        plain = inflater.decompress(data, _MOST_BYTES)
        return decoder.decode(plain) if inflater.eof else None
    except (msgspec.MsgspecError, zlib.error):
        return None
