"""The fields of a tar's headers, and what they may say: one reading for ``tarreader`` and for ``survey``.

Whoever made the layer chose these bytes: what is nonsense raises InvalidLayerError.
Spec: pax(1) in POSIX.1-2017, "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Tar Internals".
"""

from __future__ import annotations

import os
from typing import Final

from images.errors import InvalidLayerError

BLOCK: Final = 512

FILE: Final = b"0"
HARDLINK: Final = b"1"
SYMLINK: Final = b"2"
CHARACTER_DEVICE: Final = b"3"
BLOCK_DEVICE: Final = b"4"
DIRECTORY: Final = b"5"
FIFO: Final = b"6"

MAX_METADATA_BYTES: Final = 1 << 20
"""The most bytes of a PAX header or a long name, as Go's archive/tar has it."""

MAX_SIZE_BYTES: Final = (1 << 62) - 1
"""The most bytes of an entry. What comes after it still has an offset that the kernel takes: those end at 2**63."""

XATTR_KEY: Final = b"SCHILY.xattr."
SPARSE_KEY: Final = b"GNU.sparse."

_PATH_MAX: Final = 4096
MAX_DIGITS: Final = 20
"""The most digits of a number that is written in decimal."""

_NAMES: Final = frozenset((b"path", b"linkpath", b"GNU.sparse.name"))


def damaged(what: str) -> InvalidLayerError:
    return InvalidLayerError(f"damaged tar: {what}")


def header_name(header: bytes) -> bytes:
    """An entry's name as the header alone has it, not normalised."""
    name = header[:100].partition(b"\0")[0]
    if header[345] and header[257:263] == b"ustar\0":  # GNU's own format has times where ustar has the prefix
        return header[345:500].partition(b"\0")[0] + b"/" + name
    return name


def number(field: bytes, *, signed: bool = False) -> int:
    """Octal text, or base-256 as GNU tar writes what does not fit. Raises InvalidLayerError, also below 0."""
    if field[0] & 0x80:
        found = int.from_bytes(field, "big", signed=True) if field[0] == 0xFF else _base_256(field)
    else:
        try:
            found = int(field.strip(b"\0 ") or b"0", 8)
        except ValueError:
            raise damaged(f"{field!r} where a number belongs") from None
    if found < 0 and not signed:
        raise damaged(f"{found} where a number of 0 or more belongs")
    return found


def _base_256(field: bytes) -> int:
    return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")


def plain(text: bytes) -> int:
    """Decimal digits, as PAX has them."""
    if not text.isdigit() or len(text) > MAX_DIGITS:
        raise damaged(f"{text[:40]!r} where a number belongs")
    return int(text)


def too_big(size: int) -> InvalidLayerError:
    """What is wrong with an entry of more than ``MAX_SIZE_BYTES``."""
    return damaged(f"an entry of {size} bytes")


def pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records of a PAX header, in its order; a key can come again. Raises InvalidLayerError."""
    records = []
    at, end, has_nul = 0, len(data), b"\0" in data
    while at < end and data[at]:
        blank = data.find(b" ", at, at + MAX_DIGITS)
        digits = data[at:blank]
        next_at = at + int(digits) if digits.isdigit() else 0  # not by plain(): a call for each record takes too long
        key, equals, value = data[blank + 1 : next_at - 1].partition(b"=")
        if not at < blank < next_at <= end or data[next_at - 1] != 10 or not equals or not key:
            raise damaged("a PAX record that is damaged")
        if has_nul and key in _NAMES and b"\0" in value:
            raise damaged("a name with a NUL in it")
        records.append((key, value))
        at = next_at
    return records


def normalise(name: bytes) -> bytes:
    """A name relative to the root, without ``.``, ``..`` or doubled slashes; ``b""`` is the root.

    Absolute names count from the root too, as GNU tar and docker have it. Raises InvalidLayerError when the name
    climbs out of the root, or is longer than the kernel takes.
    """
    parts = name.split(b"/")
    if len(name) >= _PATH_MAX:
        raise InvalidLayerError(f"the layer has a name of {len(name)} bytes: {os.fsdecode(name[:60])!r}…")
    if b"" not in parts and b"." not in parts and b".." not in parts:
        return name
    kept: list[bytes] = []
    for part in parts:
        if part == b"..":
            if not kept:
                raise InvalidLayerError(f"the layer has an entry that leads outside: {os.fsdecode(name)!r}")
            kept.pop()
        elif part not in (b"", b"."):
            kept.append(part)
    return b"/".join(kept)
