"""Packages of rpm: its SQLite database, one header per package.

Format: rpm's lib/backend/sqlite.cc and the manual's "header structure": big-endian 32-bit numbers. First come
the number of index entries and the number of data bytes; then the entries (tag, type, offset, count); then the data.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from builder.attesting.packages.model import OperatingSystem, Package, qualified
from core.cancellation import check
from core.errors import ShiplapError

_LENGTHS: Final = struct.Struct(">II")
_ENTRY: Final = struct.Struct(">IIII")
_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _ARCH, _SOURCE = 1000, 1001, 1002, 1003, 1011, 1022, 1044
_WANTED: Final = frozenset({_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _ARCH, _SOURCE})
_INT32, _STRINGS = 4, frozenset({6, 8, 9})
_MAX_ENTRIES: Final = 1 << 16
_MAX_HEADER_BYTES: Final = 64 << 20
_STEPS: Final = 10_000
_MAX_STEPS: Final = 100_000_000  # of SQLite's machine; a package takes ten
_KEYS: Final = "gpg-pubkey"  # keys are kept as if they were packages


def packages(database: Path, found_in: str, system: OperatingSystem) -> Iterator[Package]:
    """The packages in ``database``, a copy of the image's. Raises ValueError when it is damaged or no database."""
    try:
        connection = sqlite3.connect(database)
        try:
            # The image chooses what "Packages" is. It may be a view that never ends.
            connection.set_progress_handler(_question(), _STEPS)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_HEADER_BYTES)
            headers, left = [], database.stat().st_size
            for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
                headers.append(bytes(blob))
                left -= len(headers[-1])
                if left < 0:
                    raise ValueError("the rpm database gives more than it can hold")
        finally:
            connection.close()
    except (sqlite3.Error, TypeError) as error:
        check()
        raise ValueError(str(error)) from error
    for header in headers:
        check()
        tags = _tags(header)
        name, version = tags.get(_NAME, ""), tags.get(_VERSION, "")
        if not name or name == _KEYS:
            continue
        members = {
            "arch": tags.get(_ARCH, ""),
            "distro": system.distro,
            "epoch": tags.get(_EPOCH, ""),
            "upstream": tags.get(_SOURCE, ""),
        }
        release = tags.get(_RELEASE, "")
        vendor = tags.get(_VENDOR, "")
        yield Package(
            "rpm",
            system.id,
            name,
            f"{version}-{release}" if release else version,
            found_in,
            qualified(members),
            f"Organization: {vendor}" if vendor else "",
        )


def _question() -> Callable[[], bool]:
    """Asked by SQLite; True ends the query: the build was stopped, or no real database makes a query work so long."""
    left = _MAX_STEPS // _STEPS

    def ask() -> bool:
        nonlocal left
        left -= 1
        try:
            check()
        except ShiplapError:
            return True
        return left < 0

    return ask


def _tags(header: bytes) -> dict[int, str]:
    """The wanted tags of a header, as text. Raises ValueError."""
    try:
        entries, size = _LENGTHS.unpack_from(header)
        start = _LENGTHS.size + entries * _ENTRY.size
        if entries > _MAX_ENTRIES or start + size > len(header):
            raise ValueError("a header of the rpm database is cut short")
        found: dict[int, str] = {}
        for position in range(entries):
            tag, kind, offset, _ = _ENTRY.unpack_from(header, _LENGTHS.size + position * _ENTRY.size)
            if tag not in _WANTED or offset >= size:
                continue
            if kind == _INT32:
                found[tag] = str(int.from_bytes(header[start + offset : start + offset + 4], "big"))
            elif kind in _STRINGS:
                end = header.index(b"\0", start + offset)
                found[tag] = header[start + offset : end].decode("utf-8", "replace")
    except struct.error as error:
        raise ValueError("a header of the rpm database is damaged") from error
    return found
