"""The store's database: SQLite in WAL mode, one connection that the threads of a process take turns with.

Rows are made durable (synchronous=FULL) where something irreversible follows, or where the caller was promised it.
Elsewhere a power loss may take the last transactions with it, but never changes their order; everything they said can
be derived again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from core import shortlogs
from core.sqlfaults import full_or_held, primary_code
from core.sqlscript import statements
from images.errors import StoreAccessError, StoreBusyError, StoreCorruptError, StoreError, StoreVersionError

BUSY_TIMEOUT_S: Final = 60.0
_BALLAST_BYTES: Final = 1 << 20

# One script per schema version; a released script is never changed, a new one is appended.
_MIGRATIONS: Final = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    -- volatile: not yet fsynced; believed only while meta.boot_id is the running kernel's
    CREATE TABLE blobs (
        digest TEXT PRIMARY KEY, size INTEGER NOT NULL, created_at REAL NOT NULL, volatile INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX blobs_volatile ON blobs (digest) WHERE volatile;

    -- implied: directories that the tar implies without containing them, NUL between; NULL: not looked for yet
    CREATE TABLE layers (
        diff_id TEXT PRIMARY KEY, size INTEGER NOT NULL, created_at REAL NOT NULL, implied BLOB
    ) WITHOUT ROWID;
    -- the same layers compressed: compression is gzip, zstd…; level is NULL for what came from elsewhere
    CREATE TABLE compressed (
        diff_id TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, compression TEXT NOT NULL, level INTEGER,
        PRIMARY KEY (diff_id, digest)
    ) WITHOUT ROWID;
    CREATE INDEX compressed_digest ON compressed (digest);

    CREATE TABLE images (
        id TEXT PRIMARY KEY, manifest_digest TEXT NOT NULL, created_at REAL NOT NULL, size INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX images_manifest ON images (manifest_digest);
    CREATE TABLE image_layers (
        image_id TEXT NOT NULL, position INTEGER NOT NULL, diff_id TEXT NOT NULL, PRIMARY KEY (image_id, position)
    ) WITHOUT ROWID;
    CREATE INDEX image_layers_diff_id ON image_layers (diff_id);
    CREATE TABLE names (name TEXT PRIMARY KEY, image_id TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX names_image ON names (image_id);

    CREATE TABLE records (
        key TEXT PRIMARY KEY, op TEXT NOT NULL, diff_id TEXT, created_at REAL NOT NULL, used_at REAL NOT NULL,
        duration_s REAL NOT NULL, description TEXT NOT NULL, detail BLOB NOT NULL
    );
    CREATE INDEX records_op ON records (op, created_at);
    CREATE INDEX records_description ON records (description, created_at);
    CREATE INDEX records_diff_id ON records (diff_id);
    CREATE TABLE memo (
        kind TEXT NOT NULL, key TEXT NOT NULL, data BLOB NOT NULL, used_at REAL NOT NULL, PRIMARY KEY (kind, key)
    );

    -- key: see snapshots.py. diff_id: NULL when of several layers. path: below snapshots/, NULL when nothing is in it
    CREATE TABLE snapshots (
        key TEXT PRIMARY KEY, diff_id TEXT, kind TEXT NOT NULL, path TEXT, created_at REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX snapshots_diff_id ON snapshots (diff_id);
    CREATE INDEX snapshots_path ON snapshots (path);

    -- object: a digest or a snapshot's key. Counts while the session's lock in tmp/ is held
    CREATE TABLE leases (session TEXT NOT NULL, object TEXT NOT NULL, PRIMARY KEY (session, object)) WITHOUT ROWID;
    CREATE INDEX leases_object ON leases (object);

    -- what nothing refers to and no session has leased (collect.py)
    CREATE VIEW garbage_layers AS SELECT diff_id FROM layers
        WHERE NOT EXISTS (SELECT 1 FROM leases WHERE object = layers.diff_id)
        AND NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.diff_id = layers.diff_id)
        AND NOT EXISTS (SELECT 1 FROM records r WHERE r.diff_id = layers.diff_id);
    CREATE VIEW garbage_blobs AS SELECT digest FROM blobs
        WHERE NOT EXISTS (SELECT 1 FROM leases WHERE object = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM layers WHERE diff_id = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM compressed c WHERE c.digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM images WHERE id = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM images WHERE manifest_digest = blobs.digest);
    CREATE VIEW idle_snapshots AS SELECT key, diff_id, path, created_at FROM snapshots
        WHERE path IS NOT NULL AND NOT EXISTS (SELECT 1 FROM leases WHERE object = coalesce(diff_id, key));
    """,
    """
    -- blobs that another room's tables refer to (owner: which; for the registry's see registry/server/schema.py)
    CREATE TABLE pins (digest TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (digest, owner)) WITHOUT ROWID;
    DROP VIEW garbage_blobs;
    CREATE VIEW garbage_blobs AS SELECT digest FROM blobs
        WHERE NOT EXISTS (SELECT 1 FROM leases WHERE object = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM pins p WHERE p.digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM layers WHERE diff_id = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM compressed c WHERE c.digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM images WHERE id = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM images WHERE manifest_digest = blobs.digest);
    """,
    """
    -- given: the manifest came with the image, and is kept to the letter; else it was made here
    ALTER TABLE images ADD COLUMN given INTEGER NOT NULL DEFAULT 0;
    UPDATE images SET given = 1 WHERE manifest_digest IN (SELECT key FROM memo WHERE kind = 'registry.pulled');
    ALTER TABLE images DROP COLUMN size;  -- layers may come later

    -- layers that need not be here: the blob that each can be made of again, and the DOMAIN/PATH that has it
    CREATE TABLE origins (
        diff_id TEXT NOT NULL, repository TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
        media_type TEXT NOT NULL, noted_at REAL NOT NULL, PRIMARY KEY (diff_id, repository)
    ) WITHOUT ROWID;

    CREATE VIEW known_layers AS SELECT diff_id FROM layers UNION SELECT diff_id FROM origins;

    -- images for several platforms under one name. image_id: NULL for attestations and other artifacts
    CREATE TABLE indexes (digest TEXT PRIMARY KEY, created_at REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE index_entries (
        index_digest TEXT NOT NULL, position INTEGER NOT NULL, manifest_digest TEXT NOT NULL, image_id TEXT,
        PRIMARY KEY (index_digest, position)
    ) WITHOUT ROWID;
    CREATE INDEX index_entries_image ON index_entries (image_id);
    -- what an index needs besides its images: their manifests as it names them, and all of its artifacts
    CREATE TABLE index_blobs (
        index_digest TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (index_digest, digest)
    ) WITHOUT ROWID;
    CREATE INDEX index_blobs_digest ON index_blobs (digest);
    -- index_digest: when the name is an index's; image_id is then the one of its images that this host runs
    ALTER TABLE names ADD COLUMN index_digest TEXT;
    CREATE INDEX names_index ON names (index_digest);
    -- an image has the names of the indexes that it belongs to, too
    CREATE VIEW image_names AS SELECT image_id, name FROM names WHERE index_digest IS NULL
        UNION SELECT e.image_id, n.name FROM names n JOIN index_entries e USING (index_digest)
        WHERE e.image_id IS NOT NULL;

    -- what registries call images that are here: name is DOMAIN/PATH, digest a manifest's or an index's
    CREATE TABLE repo_digests (
        name TEXT NOT NULL, digest TEXT NOT NULL, image_id TEXT NOT NULL, PRIMARY KEY (name, digest)
    ) WITHOUT ROWID;
    CREATE INDEX repo_digests_image ON repo_digests (image_id);

    DROP VIEW garbage_blobs;
    CREATE VIEW garbage_blobs AS SELECT digest FROM blobs
        WHERE NOT EXISTS (SELECT 1 FROM leases WHERE object = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM pins p WHERE p.digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM layers WHERE diff_id = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM compressed c WHERE c.digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM images WHERE id = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM images WHERE manifest_digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM indexes WHERE digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM index_blobs b WHERE b.digest = blobs.digest);
    """,
    """
    -- blobs whose files were found to have other content: absent until a good copy takes the file's place (damage.py)
    CREATE TABLE damaged (digest TEXT PRIMARY KEY, found_at REAL NOT NULL) WITHOUT ROWID;
    CREATE TRIGGER damaged_is_forgotten AFTER DELETE ON blobs BEGIN
        DELETE FROM damaged WHERE digest = old.digest;
    END;
    CREATE VIEW sound_blobs AS SELECT * FROM blobs b
        WHERE NOT EXISTS (SELECT 1 FROM damaged d WHERE d.digest = b.digest);
    CREATE VIEW sound_layers AS SELECT * FROM layers l
        WHERE NOT EXISTS (SELECT 1 FROM damaged d WHERE d.digest = l.diff_id);
    """,
    """
    -- scope: for whom the record counts (core/trust.py); empty: for everybody. owner: whose build made it
    ALTER TABLE records ADD COLUMN scope TEXT NOT NULL DEFAULT '';
    ALTER TABLE records ADD COLUMN owner TEXT NOT NULL DEFAULT 'host';
    """,
    """
    -- given: the scope (core/trust.py) of the run that gave the name; empty: the host's administrator did
    ALTER TABLE names ADD COLUMN given TEXT NOT NULL DEFAULT '';
    -- for whom layers count as here, and which blob of which registry was found to be which layer: see holdings.py
    CREATE TABLE holdings (scope TEXT NOT NULL, diff_id TEXT NOT NULL, PRIMARY KEY (diff_id, scope)) WITHOUT ROWID;
    CREATE TABLE pairs (
        blob TEXT NOT NULL, diff_id TEXT NOT NULL, registry TEXT NOT NULL, PRIMARY KEY (diff_id, blob, registry)
    ) WITHOUT ROWID;
    CREATE TRIGGER holdings_are_forgotten AFTER DELETE ON layers BEGIN
        DELETE FROM holdings WHERE diff_id = old.diff_id;
        DELETE FROM pairs WHERE diff_id = old.diff_id;
    END;
    """,
    """
    -- what runs keep: layers and images that nothing else may have, until then (seconds since the epoch); see kept.py
    CREATE TABLE kept (name TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE kept_objects (
        name TEXT NOT NULL, position INTEGER NOT NULL, object TEXT NOT NULL, is_image INTEGER NOT NULL,
        PRIMARY KEY (name, position)
    ) WITHOUT ROWID;
    CREATE INDEX kept_objects_object ON kept_objects (object);
    CREATE TRIGGER kept_goes_as_a_whole AFTER DELETE ON kept BEGIN
        DELETE FROM kept_objects WHERE name = old.name;
    END;
    DROP VIEW garbage_layers;
    CREATE VIEW garbage_layers AS SELECT diff_id FROM layers
        WHERE NOT EXISTS (SELECT 1 FROM leases WHERE object = layers.diff_id)
        AND NOT EXISTS (SELECT 1 FROM kept_objects k WHERE k.object = layers.diff_id)
        AND NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.diff_id = layers.diff_id)
        AND NOT EXISTS (SELECT 1 FROM records r WHERE r.diff_id = layers.diff_id);
    """,
    """
    -- what containers need for as long as they exist: their image, its layers, keys of flat snapshots; see pinned.py
    CREATE TABLE container_pins (
        holder TEXT NOT NULL, object TEXT NOT NULL, PRIMARY KEY (object, holder)
    ) WITHOUT ROWID;
    CREATE INDEX container_pins_holder ON container_pins (holder);
    DROP VIEW garbage_layers;
    CREATE VIEW garbage_layers AS SELECT diff_id FROM layers
        WHERE NOT EXISTS (SELECT 1 FROM leases WHERE object = layers.diff_id)
        AND NOT EXISTS (SELECT 1 FROM container_pins p WHERE p.object = layers.diff_id)
        AND NOT EXISTS (SELECT 1 FROM kept_objects k WHERE k.object = layers.diff_id)
        AND NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.diff_id = layers.diff_id)
        AND NOT EXISTS (SELECT 1 FROM records r WHERE r.diff_id = layers.diff_id);
    DROP VIEW idle_snapshots;
    CREATE VIEW idle_snapshots AS SELECT key, diff_id, path, created_at FROM snapshots
        WHERE path IS NOT NULL AND NOT EXISTS (SELECT 1 FROM leases WHERE object = coalesce(diff_id, key))
        AND NOT EXISTS (SELECT 1 FROM container_pins p WHERE p.object = coalesce(diff_id, key));
    """,
    """
    -- a repository may have a layer in several forms, and each may be the only one that some manifest names
    CREATE TABLE former_origins AS SELECT * FROM origins;
    DROP TABLE origins;
    CREATE TABLE origins (
        diff_id TEXT NOT NULL, repository TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
        media_type TEXT NOT NULL, noted_at REAL NOT NULL, PRIMARY KEY (diff_id, repository, digest)
    ) WITHOUT ROWID;
    INSERT INTO origins SELECT diff_id, repository, digest, size, media_type, noted_at FROM former_origins;
    DROP TABLE former_origins;
    """,
)
SCHEMA_VERSION: Final = len(_MIGRATIONS)


class Database:
    """``store.db``. Any thread may call any method; a transaction belongs to one thread from begin to end."""

    def __init__(self, path: Path, begin: Callable[[], None] = lambda: None) -> None:
        """Open, and make or migrate the schema. The caller makes sure that one process at a time is in here.

        begin: called before a schema is made where there is none; what it raises leaves all as it is.
        """
        self._path = path
        if not path.exists() or not path.stat().st_size:
            begin()  # before SQLite: it would remove a WAL beside an empty file
        self._lock = threading.RLock()
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
            )
        try:
            with self._translated():
                self._prepare(begin)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        with self._lock:
            shortlogs.close(self._connection, self._path)

    def one(self, sql: str, parameters: Iterable[Any] = ()) -> Any:
        """The first row, a tuple, or None."""
        with self._lock, self._translated():
            cursor = self._connection.execute(sql, tuple(parameters))
            row = cursor.fetchone()
            cursor.close()  # an unfinished read would keep the WAL from being reset
            return row

    def all(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """All rows, as tuples."""
        with self._lock, self._translated():
            return self._connection.execute(sql, tuple(parameters)).fetchall()

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold the one write lock of all processes; commit at the end, roll back on an exception.

        durable: the commit has reached the disk, and with it every commit before it, when the block ends.
        """
        with self._lock, self._translated():
            if durable:
                self._connection.execute("PRAGMA synchronous=FULL")
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            finally:
                if durable:
                    self._connection.execute("PRAGMA synchronous=NORMAL")

    def release_ballast(self) -> bool:
        """As the function of this name."""
        return release_ballast(self._path)

    def restore_ballast(self) -> None:
        """Reserve the space again, if there is any."""
        with contextlib.suppress(OSError), open(_ballast(self._path), "xb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, _BALLAST_BYTES)
            except OSError:
                os.unlink(file.name)

    def _prepare(self, begin: Callable[[], None]) -> None:
        execute = self._connection.execute
        version = execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            begin()
        if version > SCHEMA_VERSION:
            raise StoreVersionError(
                f"{self._path} has schema {version}; this Shiplap knows schemas up to {SCHEMA_VERSION}",
                hint="use the newer Shiplap that wrote it, or another --root",
            )
        if version < SCHEMA_VERSION:
            execute("PRAGMA journal_mode=WAL")
            execute("BEGIN IMMEDIATE")
            for script in _MIGRATIONS[version:]:
                for statement in statements(script):
                    execute(statement)
            execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            execute("COMMIT")
            self.restore_ballast()
        execute("PRAGMA synchronous=NORMAL")
        execute("PRAGMA journal_size_limit=16777216")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _as_store_error(error, self._path) from error


def release_ballast(database: Path) -> bool:
    """Free the space kept beside ``database`` for cleaning up a full disk: deleting rows needs space too.

    Returns whether there was any.
    """
    try:
        os.unlink(_ballast(database))
    except FileNotFoundError:
        return False
    return True


def _ballast(database: Path) -> str:
    return f"{database}.ballast"


def _as_store_error(error: sqlite3.Error, path: Path) -> Exception:
    if told := full_or_held(error, path, BUSY_TIMEOUT_S, StoreBusyError):
        return told
    code = primary_code(error)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreCorruptError(
            f"{path} is damaged: {error}",
            hint="shiplap image verify --rebuild makes a new one from the content that is there",
        )
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return StoreAccessError(
            f"cannot open {path} for writing: {error}", hint="choose a directory of your own with --root"
        )
    return StoreError(f"{path}: {error}")
