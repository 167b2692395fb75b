"""Garbage collection while the server runs: retention, marking along edges, sweeping, and uploads that nobody finishes.

It is safe against pushes at the same time. A decision and its deletion are one transaction; a manifest's push also
checks what it refers to in one transaction. Either the push comes first, and its references are marked; or it comes
later and is refused (404), and the client pushes the missing blob again. Content that a client has just learnt to be
here is younger than the grace period.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from registry.server.content import drop_if_empty
from registry.server.manifests import delete_manifest
from registry.server.registry import Registry
from registry.server.settings import Policy, Retention

_DAY_S: Final = 86400.0


@dataclass(frozen=True, slots=True)
class CollectReport:
    """What went. lines: one each, for people. freed_bytes: on disk."""

    lines: list[str] = field(default_factory=list)
    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    uploads: int = 0
    freed_bytes: int = 0


def collect(
    registry: Registry, *, grace_s: float | None = None, stays: Callable[[str], bool] = lambda _: False
) -> CollectReport:
    """Collect once.

    grace_s: instead of the settings'; 0 only when nobody is pushing.
    stays: whether all tags and manifests of a repository stay, whatever its rules say.

    Raises StoreErrors.
    """
    settings, now = registry.settings, registry.clock()
    grace = settings.grace_s if grace_s is None else grace_s
    lines: list[str] = []
    tags = manifests = blobs = 0
    for repository_id, name in registry.rows.all("SELECT id, name FROM registry_repositories ORDER BY name"):
        policy = Policy(name) if stays(name) else settings.policy(name)
        with registry.rows.transaction() as connection:  # one per repository: pushes wait no longer than that takes
            gone = _apply_retention(connection, repository_id, policy, now, now - grace)
            dead = _dead_manifests(connection, repository_id, policy, now - grace, now, freed={d for _, d in gone})
            for digest in dead:
                delete_manifest(connection, repository_id, digest)
            unlinked = _unlink_unreferenced(connection, repository_id, now - grace)
            drop_if_empty(connection, repository_id, now - grace)
        lines += [f"untagged: {name}:{tag}" for tag, _ in gone]
        lines += [f"deleted manifest: {name}@{digest}" for digest in dead]
        lines += [f"unlinked blob: {name}@{digest}" for digest in unlinked]
        tags, manifests, blobs = tags + len(gone), manifests + len(dead), blobs + len(unlinked)
    uploads = registry.uploads.expire(before=now - settings.upload_expiry_s)
    swept = registry.store.remove_unused_blobs(before=now - grace)
    return CollectReport([*lines, *swept.lines], tags, manifests, blobs, uploads, swept.freed_bytes)


def expired_tags(tags: Iterable[tuple[str, float]], rules: Retention, policy: Policy, now: float) -> list[str]:
    """Which of these tags (name, moved at) go: those that the rules are about and no rule keeps.

    Immutable tags stay.
    """
    meant = (tag for tag in tags if _fits(tag[0], rules.tags))
    newest_first = sorted(meant, key=lambda tag: (-tag[1], tag[0]))
    expired = []
    for position, (name, moved_at) in enumerate(newest_first):
        kept = (
            policy.is_immutable(name)
            or (rules.keep_last is not None and position < rules.keep_last)
            or (rules.keep_days is not None and moved_at >= now - rules.keep_days * _DAY_S)
            or _fits(name, rules.keep_tags)
        )
        if not kept:
            expired.append(name)
    return expired


def _fits(tag: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(tag, pattern) for pattern in patterns)


def _apply_retention(
    connection: sqlite3.Connection, repository_id: int, policy: Policy, now: float, before: float
) -> list[tuple[str, str]]:
    """Remove tags that did not move since ``before``; returns (name, digest) of those."""
    if policy.retention is None:
        return []
    rows = connection.execute(
        "SELECT name, digest, updated_at FROM registry_tags WHERE repository = ?", (repository_id,)
    ).fetchall()
    facts = {name: (digest, at) for name, digest, at in rows}
    expired = expired_tags(((name, at) for name, _, at in rows), policy.retention, policy, now)
    gone = [name for name in expired if facts[name][1] < before]
    connection.executemany(
        "DELETE FROM registry_tags WHERE repository = ? AND name = ?", [(repository_id, name) for name in gone]
    )
    return [(name, facts[name][0]) for name in gone]


def _dead_manifests(
    connection: sqlite3.Connection, repository_id: int, policy: Policy, before: float, now: float, *, freed: set[str]
) -> list[str]:
    """Manifests that nothing leads to, as far as the rules want them gone.

    freed: those that retention has just untagged. They go, with all that only they led to. Others go when they were
    pushed longer ago than ``untagged_days``; without that rule, a manifest pushed by digest stays for ever.
    """
    if not freed and policy.untagged_days is None:
        return []
    rows = connection.execute(
        "SELECT digest, subject, pushed_at FROM registry_manifests WHERE repository = ?", (repository_id,)
    ).fetchall()
    edges: defaultdict[str, set[str]] = defaultdict(set)
    for source, target in connection.execute(
        "SELECT manifest, target FROM registry_edges WHERE repository = ?", (repository_id,)
    ):
        edges[source].add(target)
    for digest, subject, _ in rows:
        if subject is not None:
            edges[subject].add(digest)  # signatures and attestations live as long as what they are about
    tagged = {
        digest
        for (digest,) in connection.execute("SELECT digest FROM registry_tags WHERE repository = ?", (repository_id,))
    }
    candidates = _reachable(freed, edges)
    oldest = now - policy.untagged_days * _DAY_S if policy.untagged_days is not None else None
    roots = set(tagged)
    for digest, _, pushed_at in rows:
        expired = oldest is not None and pushed_at < oldest
        if pushed_at >= before or not (expired or digest in candidates):
            roots.add(digest)
    live = _reachable(roots, edges)
    return [digest for digest, _, _ in rows if digest not in live]


def _reachable(roots: set[str], edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = list(roots)
    while todo:
        digest = todo.pop()
        if digest not in seen:
            seen.add(digest)
            todo += edges.get(digest, ())
    return seen


def _unlink_unreferenced(connection: sqlite3.Connection, repository_id: int, before: float) -> list[str]:
    return [
        digest
        for (digest,) in connection.execute(
            "DELETE FROM registry_blobs WHERE repository = ? AND touched_at < ? AND NOT EXISTS ("
            "SELECT 1 FROM registry_edges e"
            " WHERE e.repository = registry_blobs.repository AND e.target = registry_blobs.digest) RETURNING digest",
            (repository_id, before),
        ).fetchall()
    ]
