"""What a kept directory's client listed last, byte for byte: where it lists the same again, no file is looked at.

    ROOT/contexts/<key>/listing    of a transfer that came to its end; it goes before the next one changes anything

Who has the directory's lock reads and writes it. Nobody else writes to the directory, so it is still what was listed. A
power loss ends both (see ``keeping``).
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import Final

_PREFIX: Final = struct.Struct(">BI")
_MOST_BYTES: Final = 16 << 20
"""Of a listing that is kept; a longer one is not."""


class Listing:
    """The last listing of one directory. path: of its file; "" for a directory that nobody sees again."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._noted: list[bytes] = []
        self._bytes = 0

    def known(self) -> bytes:
        """The last one, as gRPC has its messages on the wire; b"" for none."""
        if not self._path:
            return b""
        try:
            with open(self._path, "rb") as file:
                return file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return b""

    def forget(self) -> None:
        """The directory is about to be changed. Raises OSError."""
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def note(self, message: bytes) -> None:
        """A message of the listing that comes."""
        if self._path and self._bytes <= _MOST_BYTES:
            self._bytes += _PREFIX.size + len(message)
            self._noted += _PREFIX.pack(0, len(message)), message

    def keep(self) -> None:
        """The directory is as it was listed. Raises OSError."""
        if self._path and self._bytes <= _MOST_BYTES:
            with open(f"{self._path}.new", "wb") as file:
                file.writelines(self._noted)
            os.replace(f"{self._path}.new", self._path)


def messages_of(listing: bytes) -> Iterator[bytes]:
    """The whole messages that a part of a listing has."""
    place = 0
    while len(listing) - place >= _PREFIX.size:
        start = place + _PREFIX.size
        place = start + _PREFIX.unpack_from(listing, place)[1]
        if place <= len(listing):
            yield listing[start:place]
