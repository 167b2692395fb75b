"""Packages of rpm: its SQLite database, one header per package.

Format: rpm's lib/backend/sqlite.cc and the manual's "header structure": numbers of big-endian 32 bits: how many index
entries, how many bytes of data; entries of tag, type, offset, count; then the data.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from builder.packages.model import OperatingSystem, Package, qualified

_LENGTHS: Final = struct.Struct(">II")
_ENTRY: Final = struct.Struct(">IIII")
_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _ARCH, _SOURCE = 1000, 1001, 1002, 1003, 1011, 1022, 1044
_WANTED: Final = frozenset({_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _ARCH, _SOURCE})
_INT32, _STRINGS = 4, frozenset({6, 8, 9})
_MAX_ENTRIES: Final = 1 << 16
_KEYS: Final = "gpg-pubkey"  # keys are kept as if they were packages


def packages(database: Path, found_in: str, system: OperatingSystem) -> Iterator[Package]:
    """What the database has; ``database`` is a copy of it. Raises ValueError when it is none, or is damaged."""
    try:
        connection = sqlite3.connect(database)
        try:
            headers = [bytes(blob) for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum")]
        finally:
            connection.close()
    except (sqlite3.Error, TypeError) as error:
        raise ValueError(str(error)) from error
    for header in headers:
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


def _tags(header: bytes) -> dict[int, str]:
    """The tags that are wanted, as text. Raises ValueError."""
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
