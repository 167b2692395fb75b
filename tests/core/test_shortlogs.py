"""A short log of a database is left to the next one, by a process that ends."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from core import leaving, shortlogs


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS told (what)")
    return connection


@pytest.mark.parametrize(("is_near", "size", "is_left"), [(True, 10, True), (True, 1 << 20, False), (False, 10, False)])
def test_log_is_left_by_who_ends_if_it_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_near: bool, size: int, is_left: bool
) -> None:
    path = tmp_path / "a.db"
    monkeypatch.setattr(leaving, "is_near", is_near)
    left: list[sqlite3.Connection] = []
    monkeypatch.setattr(shortlogs, "_left", left)
    connection = _opened(path)
    connection.execute("INSERT INTO told VALUES (?)", (b"x" * size,))
    shortlogs.close(connection, path)
    assert (tmp_path / "a.db-wal").exists() == is_left
    other = _opened(path)
    assert other.execute("SELECT length(what) FROM told").fetchall() == [(size,)]
    for each in (other, *left):
        each.close()
    assert not (tmp_path / "a.db-wal").exists()
