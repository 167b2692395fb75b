"""What SQLite says when the disk is full or another process holds the database, in words for users."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from core.errors import ShiplapError, StorageFullError

_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE})
"""Extended codes. A WAL or its index that cannot grow is told as an I/O error."""
_HELD: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's code without what extends it. 0 for an error of the module ``sqlite3`` itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def full_or_held(error: sqlite3.Error, path: Path, waited_s: float, held: type[ShiplapError]) -> ShiplapError | None:
    """The error to raise for a full disk, or for a database that another process holds. None for all else.

    waited_s: how long the lock was waited for.
    held: the room's error for it.
    """
    if getattr(error, "sqlite_errorcode", 0) in _FULL or primary_code(error) == sqlite3.SQLITE_FULL:
        return StorageFullError(
            f"no space left on the disk while writing {path}",
            hint="free some space (shiplap image prune removes what nothing uses) and run the same command again",
        )
    if primary_code(error) in _HELD:
        return held(
            f"another process has held {path} for over {waited_s:.0f} s",
            hint="look for a stopped shiplap process (fuser -v on that file) and end it",
        )
    return None
