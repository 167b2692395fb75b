"""Reading and writing the registry's rows: readers each have a connection, so that no pull waits for a push's fsync."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from images.database import Database
from images.store import Store


class Rows:
    """The database of the store, for many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.root / "store.db"
        self._local = threading.local()
        self._readers: list[Database] = []
        self._lock = threading.Lock()

    def one(self, sql: str, parameters: Iterable[Any] = ()) -> Any:
        """The first row, a tuple, or None."""
        return self._reader().one(sql, parameters)

    def all(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """All rows, as tuples."""
        return self._reader().all(sql, parameters)

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Hold the one write lock of all processes; what was written survives power loss when the block ends.

        durable=False saves the fsync where a client can just begin again.
        """
        with self._store.database.transaction(durable=durable) as connection:
            yield connection

    def close(self) -> None:
        """Close what reading threads opened; none may read any more."""
        with self._lock:
            for reader in self._readers:
                reader.close()
            self._readers.clear()

    def _reader(self) -> Database:
        reader: Database | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = Database(self._path)
            with self._lock:
                self._readers.append(reader)
        return reader
