"""What the registry has, for people who administrate it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from core.digests import Digest
from images.store import Store
from registry.server.errors import name_unknown
from registry.server.manifests import Manifest
from registry.server.rows import Rows
from registry.server.schema import prepare

_SUMMARY: Final = (
    "SELECT r.name, (SELECT count(*) FROM registry_tags t WHERE t.repository = r.id),"
    " (SELECT coalesce(sum(size), 0) FROM (SELECT content, size FROM registry_blobs WHERE repository = r.id"
    " UNION SELECT content, size FROM registry_manifests WHERE repository = r.id)) FROM registry_repositories r"
)


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
    found = store.database.all(f"{_SUMMARY} WHERE NOT (r.name >= ? AND r.name < ?) ORDER BY r.name", hidden)
    return [RepositorySummary(*row) for row in found]


def all_names(rows: Rows) -> list[str]:
    """The names of all repositories, hidden ones too, in their order."""
    return [name for (name,) in rows.all("SELECT name FROM registry_repositories ORDER BY name")]


def shown_names(rows: Rows, hidden: tuple[str, str]) -> tuple[list[str], int]:
    """The names of all repositories that are not hidden, in their order; and how many others there are.

    hidden: ``ServerSettings.hidden_range``. However many these are, they cost nearly nothing.
    """
    names = rows.all("SELECT name FROM registry_repositories WHERE NOT (name >= ? AND name < ?) ORDER BY name", hidden)
    count = rows.one("SELECT count(*) FROM registry_repositories WHERE name >= ? AND name < ?", hidden)
    return [name for (name,) in names], int(count[0])


def summaries(rows: Rows, names: Sequence[str]) -> list[RepositorySummary]:
    """These repositories in numbers, by name."""
    found = rows.all(f"{_SUMMARY} WHERE r.name IN ({_places(names)}) ORDER BY r.name", tuple(names))
    return [RepositorySummary(*row) for row in found]


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


@dataclass(frozen=True, slots=True)
class ListedManifest:
    """A manifest in a list.

    at: when its tag came to point to it, or when it was pushed; seconds since the epoch.
    tag: its name; empty for one without tags.
    """

    manifest: Manifest
    at: float
    tag: str = ""

    @property
    def cursor(self) -> str:
        """Where the list goes on after this one."""
        return f"{self.at!r},{self.tag or self.manifest.digest}"


def repository_id(rows: Rows, repository: str) -> int:
    """The key of a repository. Raises SpecError NAME_UNKNOWN."""
    row = rows.one("SELECT id FROM registry_repositories WHERE name = ?", (repository,))
    if row is None:
        raise name_unknown(repository)
    return int(row[0])


def newest_tags(rows: Rows, repository: int, *, text: str = "", after: str = "", limit: int) -> list[ListedManifest]:
    """Tags, the newest first. text: that their names have. after: a ``cursor``; one that is none begins anew."""
    at, name = _cursor(after)
    found = rows.all(
        "SELECT m.digest, m.content, m.size, m.media_type, t.updated_at, t.name FROM registry_tags t"
        " JOIN registry_manifests m ON m.repository = t.repository AND m.digest = t.digest"
        " WHERE t.repository = ? AND (t.updated_at, t.name) < (?, ?) AND (? = '' OR instr(lower(t.name), lower(?)))"
        " ORDER BY t.updated_at DESC, t.name DESC LIMIT ?",
        (repository, at, name, text, text, limit),
    )
    return [ListedManifest(Manifest(Digest(row[0]), Digest(row[1]), row[2], row[3]), row[4], row[5]) for row in found]


def untagged(rows: Rows, repository: int, *, after: str = "", limit: int) -> list[ListedManifest]:
    """Manifests that neither a tag nor an index leads to, and that are about no other, the newest first."""
    at, digest = _cursor(after)
    found = rows.all(
        f"SELECT m.digest, m.content, m.size, m.media_type, m.pushed_at FROM registry_manifests m WHERE {_UNTAGGED}"  # noqa: S608 - ours
        " AND (m.pushed_at, m.digest) < (?, ?) ORDER BY m.pushed_at DESC, m.digest DESC LIMIT ?",
        (repository, at, digest, limit),
    )
    return [ListedManifest(Manifest(Digest(row[0]), Digest(row[1]), row[2], row[3]), row[4]) for row in found]


def count_tags(rows: Rows, repository: int) -> int:
    return int(rows.one("SELECT count(*) FROM registry_tags WHERE repository = ?", (repository,))[0])


def count_untagged(rows: Rows, repository: int) -> int:
    """How many manifests ``untagged`` lists."""
    return int(rows.one(f"SELECT count(*) FROM registry_manifests m WHERE {_UNTAGGED}", (repository,))[0])  # noqa: S608 - ours


def tags_of(rows: Rows, repository: int, digests: Collection[str]) -> dict[str, list[str]]:
    """The tags of some manifests, by digest."""
    found: dict[str, list[str]] = {}
    for digest, name in rows.all(
        f"SELECT digest, name FROM registry_tags WHERE repository = ? AND digest IN ({_places(digests)}) ORDER BY name",  # noqa: S608 - ours
        (repository, *digests),
    ):
        found.setdefault(digest, []).append(name)
    return found


def indexes_of(rows: Rows, repository: int, digests: Sequence[str]) -> dict[str, list[str]]:
    """The indexes that list some manifests, by these."""
    found: dict[str, list[str]] = {}
    for target, manifest in rows.all(
        f"SELECT target, manifest FROM registry_edges WHERE repository = ? AND target IN ({_places(digests)})",  # noqa: S608 - ours
        (repository, *digests),
    ):
        found.setdefault(target, []).append(manifest)
    return found


_UNTAGGED: Final = (
    "m.repository = ? AND m.subject IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM registry_tags t WHERE t.repository = m.repository AND t.digest = m.digest)"
    " AND NOT EXISTS (SELECT 1 FROM registry_edges e WHERE e.repository = m.repository AND e.target = m.digest)"
)


def _places(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))


def _cursor(text: str) -> tuple[float, str]:
    """Where a list goes on: before this time and name; from its beginning for what is no ``cursor``."""
    at, _, name = text.partition(",")
    try:
        return (float(at), name) if name else (_FOREVER, "")
    except ValueError:
        return _FOREVER, ""


_FOREVER: Final = 1e15
