"""A blob that passes by: hashed and counted as one that is written, and kept nowhere."""

from __future__ import annotations

import hashlib

from core.digests import Digest
from images.errors import DigestMismatchError


class Passing:
    """A sink in a ``BlobWriter``'s place."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> int:
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def check(self, expected: Digest | None) -> Digest:
        """The digest of what has passed. Raises DigestMismatchError when ``expected`` is another one."""
        digest = Digest.from_hex(self._hash.hexdigest())
        if expected is not None and expected != digest:
            raise DigestMismatchError(f"content of {self.size} bytes has digest {digest}, expected {expected}")
        return digest
