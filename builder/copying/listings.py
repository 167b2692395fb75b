"""Listings of the files that one COPY took, kept so that the next COPY's files can be compared with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from builder.copying.selecting import Selection


class Listing(msgspec.Struct, frozen=True, array_like=True):
    """The files that one part of a COPY selects. sources: the path of each source in its tree, as bytes."""

    sources: tuple[bytes, ...]
    manifest: bytes

    @classmethod
    def of(cls, selection: Selection, manifest: bytes) -> Listing:
        """manifest: what ``digesting.manifest`` made of the selection."""
        return cls(tuple(os.fsencode(source.path) for source in selection.sources), manifest)


def pack(listings: Sequence[Listing]) -> bytes:
    """Pack for keeping, to a third of the size."""
    from isal import isal_zlib

    return isal_zlib.compress(msgspec.msgpack.encode(listings), 1)


def unpack(data: bytes) -> list[Listing]:
    """The reverse of ``pack``."""
    from isal import isal_zlib

    return msgspec.msgpack.decode(isal_zlib.decompress(data), type=list[Listing])
