"""Databases of SQLite that are closed at a process's end: a short write-ahead log is left to whoever comes next.

The last one who closes a database writes its log into it, syncs that twice, and removes the log; the next one makes it
anew, and syncs it once more. A command that ends anyway spares all of it. What was committed is in the log, and on the
disk if it had to be: so a killed process leaves it, too.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from core import leaving

_SHORT_BYTES = 1 << 18
"""Who opens a database that nobody has open reads its log once."""

_left: list[sqlite3.Connection] = []


def close(connection: sqlite3.Connection, path: Path) -> None:
    """Close a connection to the database at ``path``, or leave that to this process's end, if it is near."""
    if leaving.is_near and not connection.in_transaction and _has_short_log(path):
        _left.append(connection)
    else:
        connection.close()


def _has_short_log(path: Path) -> bool:
    try:
        return os.stat(f"{path}-wal").st_size <= _SHORT_BYTES
    except FileNotFoundError:
        return False
