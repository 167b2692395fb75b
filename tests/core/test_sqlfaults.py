"""Full disks and held databases, told the same way by every room's database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from core.errors import ShiplapError, StorageFullError
from core.sqlfaults import full_or_held


class HeldError(ShiplapError):
    """Of the test's room."""


def told(error: sqlite3.Error) -> ShiplapError | None:
    return full_or_held(error, Path("/r/some.db"), 10.0, HeldError)


def error_with(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("what SQLite said")
    error.sqlite_errorcode = code
    return error


def test_a_database_that_cannot_grow_is_a_full_disk() -> None:
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA max_page_count=2")
    database.execute("CREATE TABLE t (x)")
    with pytest.raises(sqlite3.OperationalError) as caught:
        database.execute("INSERT INTO t VALUES (zeroblob(100000))")
    database.close()
    found = told(caught.value)
    assert isinstance(found, StorageFullError)
    assert "no space left" in found.message
    assert "/r/some.db" in found.message


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE])
def test_a_wal_that_cannot_grow_is_a_full_disk(code: int) -> None:
    assert isinstance(told(error_with(code)), StorageFullError)


def test_a_held_database_is_told_as_the_room_says(tmp_path: Path) -> None:
    one, other = (sqlite3.connect(tmp_path / "some.db", timeout=0, isolation_level=None) for _ in range(2))
    one.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as caught:
        other.execute("BEGIN IMMEDIATE")
    one.close()
    other.close()
    found = told(caught.value)
    assert isinstance(found, HeldError)
    assert "over 10 s" in found.message
    assert "fuser" in (found.hint or "")


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_CANTOPEN, 0])
def test_all_else_is_the_rooms_to_tell(code: int) -> None:
    assert told(error_with(code)) is None
