"""What the registry has, for people who administrate it."""

from __future__ import annotations

from dataclasses import dataclass

from images.store import Store
from registry.server.errors import name_unknown
from registry.server.schema import prepare


@dataclass(frozen=True, slots=True)
class RepositorySummary:
    """A repository in numbers.

    tags: how many. size_bytes: of distinct content; what several repositories share counts in each.
    """

    name: str
    tags: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TagSummary:
    """A tag in numbers.

    updated_at: seconds since the epoch.
    """

    name: str
    digest: str
    updated_at: float


def list_repositories(store: Store, hidden: tuple[str, str] = ("", "")) -> list[RepositorySummary]:
    """All repositories by name. hidden: ``ServerSettings.hidden_range``; these are left out, and cost nothing."""
    prepare(store.database)
    return [
        RepositorySummary(*row)
        for row in store.database.all(
            "SELECT r.name, (SELECT count(*) FROM registry_tags t WHERE t.repository = r.id),"
            " (SELECT coalesce(sum(size), 0) FROM (SELECT content, size FROM registry_blobs WHERE repository = r.id"
            " UNION SELECT content, size FROM registry_manifests WHERE repository = r.id))"
            " FROM registry_repositories r WHERE NOT (r.name >= ? AND r.name < ?) ORDER BY r.name",
            hidden,
        )
    ]


def repository_names(store: Store, hidden: tuple[str, str], text: str, limit: int) -> list[str]:
    """The first names that contain the text, in whatever case. hidden: as for ``list_repositories``."""
    prepare(store.database)
    found = store.database.all(
        "SELECT name FROM registry_repositories WHERE NOT (name >= ? AND name < ?) AND instr(name, ?) > 0"
        " ORDER BY name LIMIT ?",
        (*hidden, text.lower(), limit),
    )
    return [row[0] for row in found]


def list_tags(store: Store, repository: str) -> list[TagSummary]:
    """Tags of a repository by name. Raises SpecError NAME_UNKNOWN."""
    prepare(store.database)
    row = store.database.one("SELECT id FROM registry_repositories WHERE name = ?", (repository,))
    if row is None:
        raise name_unknown(repository)
    found = store.database.all(
        "SELECT name, digest, updated_at FROM registry_tags WHERE repository = ? ORDER BY name", (row[0],)
    )
    return [TagSummary(*tag) for tag in found]
