"""What steps made, by cache key; and a memo of small results that are worth keeping between processes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from core.digests import DiffID
from core.trust import COMMON, HOST, Scope
from images.database import Database
from images.errors import MissingBlobError
from images.holdings import Holdings
from images.sessions import Session

OF_LAYERS: Final = ("directories-1", "files-1")
"""Kinds of the memo whose keys are diff IDs: they go with their layers. What a layer has in it can be long."""

NAMING_LAYERS: Final = ("copied-layer",)
"""Kinds of the memo whose data begins with a diff ID: they go with that layer, too."""

_TOUCH_AFTER_S: Final = 3600.0  # times of use are for pruning by age; an hour is exact enough
_FLUSH_AT: Final = 64
_ASKED_AT_ONCE: Final = 500  # SQLite takes some thousand parameters


class CacheRecord(NamedTuple):
    """A finished step. diff_id None: it left no layer.

    detail: the builder's own bytes.
    op: digest of the operation alone, without its inputs.
    created_at: seconds since the epoch.
    scope: the builds that it counts for; already part of its key.
    owner: the project scope of the build that made it.
    """

    key: str
    op: str
    diff_id: DiffID | None
    created_at: float
    duration_s: float
    description: str
    detail: bytes = b""
    scope: Scope = COMMON
    owner: Scope = HOST.project_scope


_SELECT: Final = (
    "SELECT key, op, diff_id, created_at, duration_s, description, detail, scope, owner, used_at FROM records "
)
_INSERT: Final = (
    "INSERT OR REPLACE INTO records"
    " (key, op, diff_id, created_at, used_at, duration_s, description, detail, scope, owner)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class CacheRecords:
    """Cache records and the memo. A record whose layer is gone does not exist."""

    def __init__(self, database: Database, session: Session, holdings: Holdings) -> None:
        self._database = database
        self._session = session
        self._holdings = holdings
        self._touched: set[str] = set()
        self._touched_memo: set[tuple[str, str]] = set()

    def get(self, key: str) -> CacheRecord | None:
        """The record of this key, its layer leased to the session."""
        row = self._database.one(_SELECT + "WHERE key = ?", (key,))
        if row is None:
            return None
        if row[2] is not None:
            self._session.lease((row[2],))
            if self._database.one("SELECT 1 FROM sound_layers WHERE diff_id = ?", (row[2],)) is None:
                return None
            self._holdings.admit((row[2],))
        if time.time() - row[-1] > _TOUCH_AFTER_S:
            self._touched.add(key)
            if len(self._touched) >= _FLUSH_AT:
                self.flush()
        return _record(row)

    def results(self, keys: Iterable[str]) -> dict[str, tuple[str | None, float]]:
        """Diff ID and time (``created_at``) of the records that there are under these keys. Leases nothing."""
        found: dict[str, tuple[str | None, float]] = {}
        wanted, now = list(keys), time.time()
        for at in range(0, len(wanted), _ASKED_AT_ONCE):
            some = wanted[at : at + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(some))
            for key, diff_id, created_at, used_at in self._database.all(
                "SELECT key, r.diff_id, r.created_at, used_at FROM records r LEFT JOIN sound_layers l USING (diff_id)"  # noqa: S608 - question marks
                f" WHERE key IN ({marks}) AND (r.diff_id IS NULL OR l.diff_id IS NOT NULL)",
                some,
            ):
                found[key] = (diff_id, created_at)
                if now - used_at > _TOUCH_AFTER_S:
                    self._touched.add(key)
        return found

    def put(self, record: CacheRecord) -> None:
        """Remember a step. Raises MissingBlobError when its layer is not in the store: write that first."""
        with self._database.transaction() as connection:
            if record.diff_id is not None:
                found = connection.execute("SELECT 1 FROM layers WHERE diff_id = ?", (record.diff_id,)).fetchone()
                if found is None:
                    raise MissingBlobError(f"layer {record.diff_id} of {record.description!r} is not in the store")
                connection.execute("INSERT OR IGNORE INTO leases VALUES (?, ?)", (self._session.id, record.diff_id))
            r = record
            made = (r.key, r.op, r.diff_id, r.created_at, time.time(), r.duration_s, r.description, r.detail)
            connection.execute(_INSERT, (*made, r.scope, r.owner))
        if record.diff_id is not None:
            self._session.note_leased(record.diff_id)

    def has_op(self, op: str, scopes: Sequence[Scope] = (COMMON,)) -> bool:
        """Whether any record that counts for one of ``scopes`` has this operation digest, whatever its inputs were."""
        marks = ",".join("?" * len(scopes))
        sql = f"SELECT 1 FROM records WHERE op = ? AND scope IN ({marks}) LIMIT 1"  # noqa: S608 - question marks
        return self._database.one(sql, (op, *scopes)) is not None

    def siblings(self, record: CacheRecord) -> list[CacheRecord]:
        """The records of the same execution under other keys, in the same scope. Leases nothing."""
        rows = self._database.all(
            _SELECT + "WHERE diff_id = ? AND op = ? AND created_at = ? AND key <> ? AND scope = ?",
            (record.diff_id, record.op, record.created_at, record.key, record.scope),
        )
        return [_record(row) for row in rows]

    def latest_for(
        self,
        *,
        before: float,
        op: str | None = None,
        description: str | None = None,
        owner: Scope = HOST.project_scope,
    ) -> CacheRecord | None:
        """The newest record of an operation, or of a description, to tell why a step missed. Leases nothing.

        before: only those made earlier, in seconds since the epoch: a build has made records of its own. owner: only
        its own.
        """
        column, wanted = ("description", description) if op is None else ("op", op)
        row = self._database.one(
            _SELECT + f"WHERE {column} = ? AND created_at < ? AND owner = ? ORDER BY created_at DESC LIMIT 1",
            (wanted, before, owner),
        )
        return None if row is None else _record(row)

    def memo_get(self, kind: str, key: str) -> bytes | None:
        """What was memoised, or None: it may be pruned at any time."""
        row = self._database.one("SELECT data, used_at FROM memo WHERE kind = ? AND key = ?", (kind, key))
        if row is None:
            return None
        if time.time() - row[1] > _TOUCH_AFTER_S:
            self._touched_memo.add((kind, key))
        return bytes(row[0])

    def memo_put(self, kind: str, key: str, data: bytes) -> None:
        """Memoise ``data``, replacing what was there. kind: who it belongs to; each user of the memo has its own."""
        self.memo_put_all(kind, {key: data})

    def memo_put_all(self, kind: str, entries: Mapping[str, bytes]) -> None:
        """Memoise all of ``entries`` in one transaction."""
        rows = [(kind, key, data, time.time()) for key, data in entries.items()]
        if rows:
            with self._database.transaction() as connection:
                connection.executemany("INSERT OR REPLACE INTO memo VALUES (?, ?, ?, ?)", rows)

    def flush(self) -> None:
        """Write down which records were used. ``Store.close`` does it."""
        touched, self._touched = self._touched, set()
        memo, self._touched_memo = self._touched_memo, set()
        if not touched and not memo:
            return
        now = time.time()
        with self._database.transaction() as connection:
            connection.executemany("UPDATE records SET used_at = ? WHERE key = ?", [(now, key) for key in touched])
            connection.executemany(
                "UPDATE memo SET used_at = ? WHERE kind = ? AND key = ?", [(now, kind, key) for kind, key in memo]
            )


def _record(row: tuple[str, str, str | None, float, float, str, bytes, str, str, float]) -> CacheRecord:
    diff_id = None if row[2] is None else DiffID(row[2])
    return CacheRecord(row[0], row[1], diff_id, row[3], row[4], row[5], bytes(row[6]), row[7], row[8])
