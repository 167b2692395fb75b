"""What a database's errors say of it: whether it serves nobody, or is only out of reach from here."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from core.settings import ServiceSettings
from pipelines.database import Database, _engine, migrate
from pipelines.errors import DatabaseDownError, DatabaseFullError, DatabaseUnreachableError


def trouble(url: str, root: Path) -> DatabaseUnreachableError:
    database = Database(_engine(ServiceSettings(root, url, "")))
    with pytest.raises(DatabaseUnreachableError) as caught, database.write() as connection:
        connection.execute(text("SELECT 1"))
    database.close()
    return caught.value


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/x", "postgresql://nobody@/x?host=/nonexistent"])
def test_postgresql_that_nobody_runs_serves_nobody(url: str, tmp_path: Path) -> None:
    assert isinstance(trouble(url, tmp_path), DatabaseDownError)


def test_postgresql_that_cannot_be_found_may_serve_others(tmp_path: Path) -> None:
    assert not isinstance(trouble("postgresql://nobody@host.invalid/x", tmp_path), DatabaseDownError)


def test_sqlite_that_somebody_holds_serves_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.database._BUSY_TIMEOUT_S", 0)
    settings = ServiceSettings.from_environ({}, root=str(tmp_path))
    migrate(settings)
    holder = sqlite3.connect(tmp_path / "serve" / "service.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    found = trouble(settings.database_url, tmp_path)
    holder.close()
    assert isinstance(found, DatabaseDownError)
    assert not isinstance(found, DatabaseFullError)
