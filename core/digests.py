"""Digests, parsed once at the edge: after that a ``Digest`` is known to be well-formed.

``DiffID`` and ``ChainID`` are digests of particular things, so they are types of their own, which mypy keeps apart. On
disk, in JSON and in SQLite all of them are plain strings.
Spec: image-spec descriptor.md "Digests", config.md "Layer DiffID" and "Layer ChainID".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Self

from core.errors import InvalidReferenceError

_SMALL_BYTES = 256 << 10
_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_SHAPE = re.compile(r"(sha256|sha512):([0-9a-f]+)")


class Digest(str):
    """``algorithm:hex`` of some bytes. Make one with ``parse``, ``of`` or from a hash object."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check the shape of ``text``. Raises InvalidReferenceError when it is not a digest that we can verify."""
        match = _SHAPE.fullmatch(text)
        if match is None or len(match[2]) != _HEX_LENGTH[match[1]]:
            raise InvalidReferenceError(
                f"not a digest: {text[:100]!r}", hint="expected sha256: followed by 64 lower-case hexadecimal digits"
            )
        return cls(text)

    @classmethod
    def of(cls, data: bytes | memoryview) -> Self:
        """The sha256 digest of ``data``."""
        if len(data) <= _SMALL_BYTES:
            from core.smallhash import sha256
        else:
            from hashlib import sha256  # OpenSSL takes 3 ms to load, and is four times as fast
        return cls("sha256:" + sha256(data).hexdigest())

    @classmethod
    def from_hex(cls, hex_sha256: str) -> Self:
        """From what ``hashlib.sha256().hexdigest()`` returns."""
        return cls("sha256:" + hex_sha256)

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The first 12 digits, as docker shows an image ID."""
        return self.hex[:12]


class DiffID(Digest):
    """The digest of a layer's uncompressed tar."""

    __slots__ = ()


class ChainID(Digest):
    """The identity of the filesystem that a sequence of layers makes."""

    __slots__ = ()


def chain_id(diff_ids: Sequence[DiffID]) -> ChainID:
    """Identify the filesystem made by applying layers in order.

    diff_ids: uncompressed tar digests, base first, at least one.
    Raises ValueError when empty.  Spec: image-spec config.md, "Layer ChainID".
    """
    if not diff_ids:
        raise ValueError("a chain needs at least one layer")
    chain = ChainID(diff_ids[0])
    for diff_id in diff_ids[1:]:
        chain = chain_on(chain, diff_id)
    return chain


def chain_on(below: ChainID, diff_id: DiffID) -> ChainID:
    """The chain of one more layer on those of ``below``."""
    return ChainID.of(f"{below} {diff_id}".encode())
