"""The registry's tables. They live in ``store.db`` beside the blobs' rows, so that a blob and its link are one commit.

    repositories    a row from the first push on
    blobs           a blob is visible in a repository by its row here, under the digest it was pushed with
    manifests       likewise; ``content`` is always the sha256 name that the blob store knows
    edges           what a manifest refers to: garbage collection marks along them
    tags, uploads, users, grants, access tokens, rules of repositories

Every ``content`` is pinned (images' ``pins``) by triggers, so that no collector takes what a row here refers to.
"""

from __future__ import annotations

from typing import Final

from core.sqlscript import statements
from images.database import Database
from registry.server.errors import ServerSettingsError

_KEY: Final = "registry_schema"
_HIDDEN: Final = "registry_hidden"

# One script per version; a released script is never changed, a new one is appended.
_MIGRATIONS: Final = (
    """
    CREATE TABLE registry_repositories (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at REAL NOT NULL);

    CREATE TABLE registry_blobs (
        repository INTEGER NOT NULL, digest TEXT NOT NULL, content TEXT NOT NULL, size INTEGER NOT NULL,
        touched_at REAL NOT NULL, PRIMARY KEY (repository, digest)
    ) WITHOUT ROWID;
    CREATE INDEX registry_blobs_content ON registry_blobs (content);
    CREATE INDEX registry_blobs_digest ON registry_blobs (digest);

    -- depth: 0 for a manifest without children; subject: NULL without; annotations: JSON
    CREATE TABLE registry_manifests (
        repository INTEGER NOT NULL, digest TEXT NOT NULL, content TEXT NOT NULL, size INTEGER NOT NULL,
        media_type TEXT NOT NULL, artifact_type TEXT NOT NULL, subject TEXT, annotations TEXT NOT NULL,
        depth INTEGER NOT NULL, pushed_at REAL NOT NULL, PRIMARY KEY (repository, digest)
    ) WITHOUT ROWID;
    CREATE INDEX registry_manifests_content ON registry_manifests (content);
    CREATE INDEX registry_manifests_subject ON registry_manifests (repository, subject) WHERE subject IS NOT NULL;

    CREATE TABLE registry_edges (
        repository INTEGER NOT NULL, manifest TEXT NOT NULL, target TEXT NOT NULL,
        PRIMARY KEY (repository, manifest, target)
    ) WITHOUT ROWID;
    CREATE INDEX registry_edges_target ON registry_edges (repository, target);

    CREATE TABLE registry_tags (
        repository INTEGER NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, updated_at REAL NOT NULL,
        PRIMARY KEY (repository, name)
    ) WITHOUT ROWID;
    CREATE INDEX registry_tags_digest ON registry_tags (repository, digest);
    CREATE INDEX registry_tags_order ON registry_tags (repository, lower(name), name);

    -- the bytes are in ROOT/serve/uploads/<id>
    CREATE TABLE registry_uploads (id TEXT PRIMARY KEY, repository TEXT NOT NULL, started_at REAL NOT NULL)
        WITHOUT ROWID;

    CREATE TABLE registry_users (name TEXT PRIMARY KEY, password TEXT NOT NULL, created_at REAL NOT NULL) WITHOUT ROWID;
    -- actions: some of pull, push, delete; spaces between. user '': everyone, also without credentials
    CREATE TABLE registry_grants (
        user TEXT NOT NULL, pattern TEXT NOT NULL, actions TEXT NOT NULL, PRIMARY KEY (user, pattern)
    ) WITHOUT ROWID;
    -- a password for machines, with at most the user's rights; digest: sha256 of the secret
    CREATE TABLE registry_tokens (
        id TEXT PRIMARY KEY, user TEXT NOT NULL, digest TEXT NOT NULL UNIQUE, pattern TEXT NOT NULL,
        actions TEXT NOT NULL, created_at REAL NOT NULL, expires_at REAL
    ) WITHOUT ROWID;

    CREATE VIEW registry_used AS SELECT content FROM registry_blobs UNION ALL SELECT content FROM registry_manifests;
    CREATE TRIGGER registry_pin_blob AFTER INSERT ON registry_blobs BEGIN
        INSERT OR IGNORE INTO pins VALUES (NEW.content, 'registry');
    END;
    CREATE TRIGGER registry_unpin_blob AFTER DELETE ON registry_blobs BEGIN
        DELETE FROM pins WHERE digest = OLD.content AND owner = 'registry'
            AND NOT EXISTS (SELECT 1 FROM registry_used WHERE content = OLD.content);
    END;
    CREATE TRIGGER registry_pin_manifest AFTER INSERT ON registry_manifests BEGIN
        INSERT OR IGNORE INTO pins VALUES (NEW.content, 'registry');
    END;
    CREATE TRIGGER registry_unpin_manifest AFTER DELETE ON registry_manifests BEGIN
        DELETE FROM pins WHERE digest = OLD.content AND owner = 'registry'
            AND NOT EXISTS (SELECT 1 FROM registry_used WHERE content = OLD.content);
    END;
    """,
    """
    -- Users that a service made for API tokens; their holders get in without such users now.
    DELETE FROM registry_users WHERE name IN ('api-token-build', 'api-token-read');
    DELETE FROM registry_grants WHERE user IN ('api-token-build', 'api-token-read');
    DELETE FROM registry_tokens WHERE user IN ('api-token-build', 'api-token-read');
    """,
    """
    CREATE INDEX registry_tags_newest ON registry_tags (repository, updated_at, name);
    -- what people chose on pages for one repository, see rules.py; document: JSON
    CREATE TABLE registry_rules (repository TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
    """,
)
SCHEMA_VERSION: Final = len(_MIGRATIONS)


def prepare(database: Database) -> None:
    """Make or migrate the tables. Raises ServerSettingsError when a newer Shiplap wrote them."""
    if _version(database.one("SELECT value FROM meta WHERE key = ?", (_KEY,))) == SCHEMA_VERSION:
        return
    with database.transaction(durable=True) as connection:
        version = _version(connection.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone())
        if version > SCHEMA_VERSION:
            raise ServerSettingsError(
                f"the registry's tables have schema {version}; this Shiplap knows schemas up to {SCHEMA_VERSION}",
                hint="use the newer Shiplap that wrote them, or another --root",
            )
        for script in _MIGRATIONS[version:]:
            for statement in statements(script):
                connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, str(SCHEMA_VERSION)))


def hidden(database: Database) -> tuple[str, float] | None:
    """What the names of the repositories begin with that belong to the program around, and since when, in seconds since
    the epoch; None: none do.
    """
    row = database.one("SELECT value FROM meta WHERE key = ?", (_HIDDEN,))
    if row is None:
        return None
    prefix, _, since = str(row[0]).partition(" ")
    return prefix, float(since)


def hide(database: Database, prefix: str, now: float) -> None:
    """Let repositories belong to the program around from now on, whoever opens the registry; the first time counts."""
    with database.transaction(durable=True) as connection:
        connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (_HIDDEN, f"{prefix} {now!r}"))


def _version(row: tuple[str] | None) -> int:
    return int(row[0]) if row else 0
