"""Hidden repositories, from the side of the program around the registry that they belong to: it says what goes.

It asks for what was pushed before some time, some at a time, and has removed what it does not want. What was pushed
again since stays, and so does what was there before the names were hidden (``schema.hide``): that is somebody's image.
Blobs that no manifest names go with the next collection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from registry.server.content import drop_if_empty
from registry.server.manifests import delete_manifest
from registry.server.registry import Registry
from registry.server.schema import hidden

_AT_ONCE: Final = 500
_MANIFESTS: Final = """
SELECT digest FROM registry_manifests WHERE repository = ? AND digest > ? AND pushed_at < ? AND pushed_at >= ?
ORDER BY digest LIMIT ?
"""
_TAGS: Final = """
SELECT name FROM registry_tags WHERE repository = ? AND (lower(name), name) > (lower(?), ?)
AND updated_at < ? AND updated_at >= ? ORDER BY lower(name), name LIMIT ?
"""


def repositories(registry: Registry) -> list[tuple[int, str]]:
    """The keys and names of all hidden repositories."""
    sql = "SELECT id, name FROM registry_repositories WHERE name >= ? AND name < ? ORDER BY name"
    return registry.rows.all(sql, registry.settings.hidden_range)


def manifests(registry: Registry, repository: int, before: float) -> Iterator[list[str]]:
    """The digests of what was pushed before a time, some at a time."""
    last, since = "", _since(registry)
    while found := [digest for (digest,) in registry.rows.all(_MANIFESTS, (repository, last, before, since, _AT_ONCE))]:
        yield found
        last = found[-1]


def tags(registry: Registry, repository: int, before: float) -> Iterator[list[str]]:
    """The tags that did not move since a time, some at a time."""
    last, since = "", _since(registry)
    while found := [name for (name,) in registry.rows.all(_TAGS, (repository, last, last, before, since, _AT_ONCE))]:
        yield found
        last = found[-1]


def remove(registry: Registry, repository: int, digests: Sequence[str], names: Sequence[str], before: float) -> int:
    """Remove these manifests, with the tags that stand for them, and these tags, unless they are newer than a time.

    Returns how many manifests went.
    """
    gone = 0
    with registry.rows.transaction() as connection:
        for digest in digests:
            sql = "SELECT 1 FROM registry_manifests WHERE repository = ? AND digest = ? AND pushed_at < ?"
            if connection.execute(sql, (repository, digest, before)).fetchone() is None:
                continue
            connection.execute("DELETE FROM registry_tags WHERE repository = ? AND digest = ?", (repository, digest))
            delete_manifest(connection, repository, digest)
            gone += 1
        connection.executemany(
            "DELETE FROM registry_tags WHERE repository = ? AND name = ? AND updated_at < ?",
            [(repository, name, before) for name in names],
        )
        drop_if_empty(connection, repository, before)
    return gone


def _since(registry: Registry) -> float:
    found = hidden(registry.store.database)
    return found[1] if found is not None else registry.clock()
