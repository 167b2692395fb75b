"""Garbage collection: what to remove is decided in one transaction, files go after it, each under its own check.

What an image, a cache record, a run's row (kept.py), a container (pinned.py) or a living session's lease refers to is
kept. First the rows go,
durably: from then on the content does not exist. Then each file is taken out of its place, inside a write transaction
that has made sure that neither row nor lease has come back. After a kill in between, the file is an orphan; the next
prune finds it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from core.errors import StorageFullError
from core.references import Reference
from images.database import Database
from images.records import NAMING_LAYERS, OF_LAYERS
from images.sessions import Session, reclaim_all, remove_orphan_snapshots
from images.trees import remove_tree

_BATCH: Final = 200  # files per write transaction: others wait no longer than that takes
_FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What was removed.

    lines: what docker would print.
    freed_bytes: on disk.
    images, records: how many went.
    """

    lines: list[str] = field(default_factory=list)
    images: int = 0
    records: int = 0
    freed_bytes: int = 0


@dataclass(slots=True)
class _Plan:
    lines: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    records: int = 0
    blobs: list[str] = field(default_factory=list)
    snapshots: list[str] = field(default_factory=list)


class Collector:
    """Removes images, records and what nothing refers to any more."""

    def __init__(self, root: Path, database: Database, session: Session) -> None:
        self._root = root
        self._database = database
        self._session = session

    def remove_images(self, ids: Sequence[str]) -> PruneReport:
        """Remove these images with their names, and what only they had.

        An image that a run keeps, that a container is of, or that another session has leased (it may be about to name
        it), loses no more than its names.
        """

        def plan(connection: sqlite3.Connection) -> _Plan:
            return self._without_images(connection, _Plan(), ids)

        return self._carry_out(plan, sweep=False)

    def remove_index(self, digest: str) -> PruneReport:
        """Remove this index with its names and what only it had, also images, unless they have names of their own.

        An index that another session has leased loses its names only.
        """

        def plan(connection: sqlite3.Connection) -> _Plan:
            made = _Plan()
            if _column(connection, _LEASED_BY_ANOTHER, digest, self._session.id):
                _remove_names(connection, _OF_INDEX, digest, made, "Untagged")
                return made
            kept = _column(connection, "SELECT digest FROM index_blobs WHERE index_digest = ?", digest)
            images = _remove_index(connection, digest, made, "Untagged", "Deleted")
            _remove_blobs(connection, [digest, *kept], made)
            return self._without_images(connection, made, images)

        return self._carry_out(plan, sweep=False)

    def _without_images(self, connection: sqlite3.Connection, made: _Plan, ids: Iterable[str]) -> _Plan:
        layers: list[str] = []
        blobs: list[str] = []
        for image_id in ids:
            if _column(connection, _NEEDED, image_id, image_id, image_id, self._session.id):
                _remove_names(connection, _OF_IMAGE, image_id, made, "Untagged")
                continue
            layers += _column(connection, "SELECT diff_id FROM image_layers WHERE image_id = ?", image_id)
            blobs += [image_id, *_column(connection, "SELECT manifest_digest FROM images WHERE id = ?", image_id)]
            _remove_image(connection, image_id, made, "Untagged", "Deleted")
        garbage = [
            diff_id
            for diff_id in dict.fromkeys(layers)
            if _column(connection, "SELECT diff_id FROM garbage_layers WHERE diff_id = ?", diff_id)
        ]
        made.lines += [f"Deleted: {diff_id}" for diff_id in garbage]
        for diff_id in garbage:
            blobs += [diff_id, *_column(connection, "SELECT digest FROM compressed WHERE diff_id = ?", diff_id)]
        _remove_layers(connection, garbage, made)
        _remove_blobs(connection, blobs, made)
        return made

    def prune(
        self,
        *,
        all_unused: bool,
        cache: bool,
        until: float | None,
        indexed: bool,
        among: Collection[str] | None = None,
    ) -> PruneReport:
        """See ImageStore.prune. indexed: layers can be: what a step wrote goes, for its layer has it."""
        before = _FOREVER if until is None else until

        def spared(images: Iterable[str]) -> bool:
            return among is not None and not all(each in among for each in images)

        def plan(connection: sqlite3.Connection) -> _Plan:
            made = _Plan()
            connection.execute(_EXPIRED, (time.time(),))
            for digest in _column(connection, _PRUNABLE_INDEXES, before):
                if spared(_column(connection, _IMAGES_OF_INDEX, digest)):
                    continue
                if all_unused or not _column(connection, "SELECT name FROM names WHERE index_digest = ?", digest):
                    _remove_index(connection, digest, made, "untagged", "deleted")
            for image_id in _column(connection, _PRUNABLE_IMAGES, before):
                if spared([image_id]):
                    continue
                if all_unused or not _column(connection, "SELECT name FROM names WHERE image_id = ?", image_id):
                    _remove_image(connection, image_id, made, "untagged", "deleted")
            made.records = connection.execute(_RECORDS_WITHOUT_LAYER).rowcount
            if cache:
                made.records += connection.execute(_UNUSED_RECORDS, (before,)).rowcount
                connection.execute(_UNUSED_MEMOS, (before, min(before, time.time() - _LINEAGES_KEPT_S)))
                made.snapshots += _column(connection, _UNUSED_SNAPSHOTS, before)
            _remove_layers(connection, _column(connection, "SELECT diff_id FROM garbage_layers"), made)
            connection.execute(_UNUSED_ORIGINS)
            made.snapshots += _column(connection, _UNUSED_FLAT_SNAPSHOTS)
            if indexed:
                made.snapshots += _column(connection, _UNUSED_UPPERS, before)
            connection.executemany("DELETE FROM snapshots WHERE path = ?", [(path,) for path in made.snapshots])
            _remove_blobs(connection, _column(connection, "SELECT digest FROM garbage_blobs"), made)
            return made

        return self._carry_out(plan, sweep=True)

    def remove_cached(self, diff_ids: Sequence[str], snapshots: Sequence[str]) -> PruneReport:
        """Remove the records of these layers, the layers that then nothing needs, and these snapshots.

        What a living session has leased stays.
        """

        def plan(connection: sqlite3.Connection) -> _Plan:
            made = _Plan()
            for diff_id in diff_ids:
                made.records += connection.execute(_UNLEASED_RECORDS_OF, (diff_id,)).rowcount
            garbage = [d for d in diff_ids if _column(connection, _GARBAGE_LAYER, d)]
            blobs = [b for d in garbage for b in (d, *_column(connection, _COMPRESSED_OF, d))]
            for path in snapshots:
                made.snapshots += _column(connection, "SELECT path FROM idle_snapshots WHERE path = ?", path)
            connection.executemany("DELETE FROM snapshots WHERE path = ?", [(path,) for path in made.snapshots])
            _remove_layers(connection, garbage, made)
            _remove_blobs(connection, blobs, made)
            made.lines += garbage
            return made

        return self._carry_out(plan, sweep=False)

    def remove_uppers(self, *, before: float) -> PruneReport:
        """Remove what steps wrote before this time where the layer has it and is mounted instead, unless it is used."""

        def plan(connection: sqlite3.Connection) -> _Plan:
            made = _Plan(snapshots=_column(connection, _UNUSED_UPPERS, before))
            connection.executemany("DELETE FROM snapshots WHERE path = ?", [(path,) for path in made.snapshots])
            return made

        return self._carry_out(plan, sweep=False)

    def remove_remade(self, pairs: Iterable[tuple[str, str]], level: int) -> PruneReport:
        """Remove compressed blobs that are made of their layers again. pairs: layers and their blobs. level: by which.

        What anybody uses or refers to otherwise stays, and stays what it came as.
        """

        def plan(connection: sqlite3.Connection) -> _Plan:
            made = _Plan()
            for diff_id, digest in pairs:
                if _column(connection, _ONLY_COMPRESSED, diff_id, digest):
                    connection.execute(_MADE_AGAIN_BY, (level, diff_id, digest))
                    connection.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
                    made.blobs.append(digest)
            return made

        return self._carry_out(plan, sweep=False)

    def remove_blobs(self, *, before: float) -> PruneReport:
        """Remove blobs written before this time (seconds since the epoch) that nothing refers to, and files of none."""

        def plan(connection: sqlite3.Connection) -> _Plan:
            made = _Plan()
            _remove_blobs(connection, _column(connection, _OLD_GARBAGE_BLOBS, before), made)
            made.lines += [f"deleted: {digest}" for digest in made.blobs]
            return made

        return self._carry_out(plan, sweep=True)

    def _carry_out(self, plan: Callable[[sqlite3.Connection], _Plan], *, sweep: bool) -> PruneReport:
        try:
            return self._try_to_carry_out(plan, sweep=sweep)
        except StorageFullError:
            if not self._database.release_ballast():
                raise
            return self._try_to_carry_out(plan, sweep=sweep)
        finally:
            self._database.restore_ballast()

    def _try_to_carry_out(self, plan: Callable[[sqlite3.Connection], _Plan], *, sweep: bool) -> PruneReport:
        freed = unknown = 0
        if sweep:
            # Before anything that needs space: this may be a full disk's only relief.
            orphans, unknown = self._files_without_row()
            freed += self._remove_doomed(orphans)
        reclaim_all(self._root, self._database)
        with self._database.transaction(durable=True) as connection:
            made = plan(connection)
            connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, '')", _doomed(made.blobs))
        freed += self._remove_doomed(made.blobs)
        for name in made.snapshots:
            freed += self._remove_snapshot(name)
        if sweep:
            if unknown:
                made.lines.append(
                    f"kept: {unknown} files of images that store.db does not know. Is it an older copy?"
                    " shiplap image verify --rebuild takes them in"
                )
            freed += remove_orphan_snapshots(self._root, self._database)
        return PruneReport(made.lines, len(made.images), made.records, freed)

    def _files_without_row(self) -> tuple[list[str], int]:
        """The digests of files without a row; and how many more must stay: images that another database knew."""
        known = {digest for (digest,) in self._database.all("SELECT digest FROM blobs")}
        directory = str(self._root / "blobs" / "sha256")
        with os.scandir(directory) as entries:
            orphans = [digest for entry in entries if (digest := f"sha256:{entry.name}") not in known]
        if not orphans:
            return [], 0
        from images.found import of_unknown_images

        # A removal that was killed has left files that it had announced.
        doomed = {key.removeprefix(_DOOMED) for (key,) in self._database.all(_ALL_DOOMED)}
        unknown = of_unknown_images(directory, orphans) - doomed
        return [digest for digest in orphans if digest not in unknown], len(unknown)

    def _remove_doomed(self, digests: Sequence[str]) -> int:
        freed = self._remove_files(digests)
        if digests:
            with self._database.transaction() as connection:
                connection.executemany("DELETE FROM meta WHERE key = ?", _doomed(digests))
        return freed

    def _remove_files(self, digests: Sequence[str]) -> int:
        freed = 0
        for start in range(0, len(digests), _BATCH):
            moved = []
            with self._database.transaction() as connection:
                for digest in digests[start : start + _BATCH]:
                    if connection.execute(_IN_USE, (digest, digest)).fetchone() is None:
                        aside = self._session.new_path()
                        with contextlib.suppress(FileNotFoundError):
                            os.rename(self._root / "blobs" / "sha256" / digest.removeprefix("sha256:"), aside)
                            moved.append(aside)
            for aside in moved:  # truncating a big file takes long: not while others wait
                freed += os.stat(aside).st_blocks * 512
                os.unlink(aside)
        return freed

    def _remove_snapshot(self, name: str) -> int:
        aside = self._session.new_path()
        try:
            os.rename(self._root / "snapshots" / name, aside)
        except FileNotFoundError:
            return 0
        return remove_tree(aside)


def _doomed(digests: Iterable[str]) -> list[tuple[str]]:
    """The keys by which ``meta`` says that files are about to be removed: these are no images that it has lost."""
    return [(f"{_DOOMED}{digest}",) for digest in digests]


_DOOMED: Final = "doomed:"
_ALL_DOOMED: Final = "SELECT key FROM meta WHERE key >= 'doomed:' AND key < 'doomed:~'"
_IN_USE: Final = "SELECT 1 FROM blobs WHERE digest = ? UNION ALL SELECT 1 FROM leases WHERE object = ? LIMIT 1"
_LEASED_BY_ANOTHER: Final = "SELECT session FROM leases WHERE object = ? AND session <> ? LIMIT 1"
_NEEDED: Final = (
    "SELECT 1 FROM kept_objects WHERE object = ? UNION ALL SELECT 1 FROM container_pins WHERE object = ?"
    " UNION ALL SELECT 1 FROM leases WHERE object = ? AND session <> ? LIMIT 1"
)
_EXPIRED: Final = "DELETE FROM kept WHERE until < ?"
_PRUNABLE_INDEXES: Final = (
    "SELECT digest FROM indexes WHERE created_at < ? AND NOT EXISTS (SELECT 1 FROM leases WHERE object = digest)"
    " ORDER BY created_at"
)
_IMAGES_OF_INDEX: Final = "SELECT image_id FROM index_entries WHERE index_digest = ? AND image_id IS NOT NULL"
_PRUNABLE_IMAGES: Final = (
    "SELECT id FROM images WHERE created_at < ? AND NOT EXISTS (SELECT 1 FROM leases WHERE object = images.id)"
    " AND NOT EXISTS (SELECT 1 FROM kept_objects WHERE object = images.id)"
    " AND NOT EXISTS (SELECT 1 FROM container_pins WHERE object = images.id)"
    " AND NOT EXISTS (SELECT 1 FROM index_entries WHERE image_id = images.id) ORDER BY created_at"
)
_ONLY_OF_THIS_INDEX: Final = (
    "SELECT DISTINCT image_id FROM index_entries e WHERE index_digest = ? AND image_id IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM index_entries o WHERE o.image_id = e.image_id AND o.index_digest <> e.index_digest)"
    " AND NOT EXISTS (SELECT 1 FROM names WHERE image_id = e.image_id AND index_digest IS NULL) ORDER BY position"
)
_OF_IMAGE: Final = (
    "SELECT name FROM names WHERE image_id = ? AND index_digest IS NULL ORDER BY name",
    "DELETE FROM names WHERE image_id = ? AND index_digest IS NULL",
)
_OF_INDEX: Final = (
    "SELECT name FROM names WHERE index_digest = ? ORDER BY name",
    "DELETE FROM names WHERE index_digest = ?",
)
_UNUSED_ORIGINS: Final = (
    "DELETE FROM origins WHERE NOT EXISTS (SELECT 1 FROM leases WHERE object = diff_id)"
    " AND NOT EXISTS (SELECT 1 FROM container_pins p WHERE p.object = origins.diff_id)"
    " AND NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.diff_id = origins.diff_id)"
    " AND NOT EXISTS (SELECT 1 FROM records r WHERE r.diff_id = origins.diff_id)"
)
_RECORDS_WITHOUT_LAYER: Final = (
    "DELETE FROM records WHERE diff_id IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM known_layers k WHERE k.diff_id = records.diff_id)"
)
_UNUSED_RECORDS: Final = (
    "DELETE FROM records WHERE used_at < ? AND NOT EXISTS (SELECT 1 FROM leases WHERE object = records.diff_id)"
)
_UNLEASED_RECORDS_OF: Final = (
    "DELETE FROM records WHERE diff_id = ? AND NOT EXISTS (SELECT 1 FROM leases WHERE object = records.diff_id)"
)
_GARBAGE_LAYER: Final = "SELECT diff_id FROM garbage_layers WHERE diff_id = ?"
_COMPRESSED_OF: Final = "SELECT digest FROM compressed WHERE diff_id = ?"
_ONLY_COMPRESSED: Final = (
    "SELECT b.digest FROM blobs b JOIN sound_layers l ON l.diff_id = ? WHERE b.digest = ?"
    " AND NOT EXISTS (SELECT 1 FROM leases WHERE object = b.digest)"
    " AND NOT EXISTS (SELECT 1 FROM pins p WHERE p.digest = b.digest)"
    " AND NOT EXISTS (SELECT 1 FROM layers o WHERE o.diff_id = b.digest)"
    " AND NOT EXISTS (SELECT 1 FROM images WHERE id = b.digest OR manifest_digest = b.digest)"
    " AND NOT EXISTS (SELECT 1 FROM indexes WHERE digest = b.digest)"
    " AND NOT EXISTS (SELECT 1 FROM index_blobs i WHERE i.digest = b.digest)"
    " AND NOT EXISTS (SELECT 1 FROM compressed c WHERE c.digest = b.digest AND c.diff_id <> l.diff_id)"
)
_MADE_AGAIN_BY: Final = "UPDATE compressed SET level = ? WHERE diff_id = ? AND digest = ?"
_LINEAGES_KEPT_S: Final = 30 * 86400.0
_UNUSED_MEMOS: Final = (  # what the last build was made of is small, and tells why the next one has to begin anew
    "DELETE FROM memo WHERE used_at < ?1 AND (kind NOT GLOB 'lineage*' OR used_at < ?2)"
)
_MEMO_OF: Final = "DELETE FROM memo WHERE kind = ? AND key = ?"
_MEMOS_OF_NO_LAYER: Final = (
    "DELETE FROM memo WHERE kind = ?"
    " AND CAST(substr(data, 1, 71) AS TEXT) NOT IN (SELECT diff_id FROM layers)"  # as long as a diff ID is
)
_OLD_GARBAGE_BLOBS: Final = "SELECT digest FROM garbage_blobs JOIN blobs USING (digest) WHERE created_at < ?"
_UNUSED_SNAPSHOTS: Final = "SELECT path FROM idle_snapshots WHERE created_at < ?"
_UNUSED_UPPERS: Final = (
    "SELECT i.path FROM idle_snapshots i JOIN snapshots s USING (key)"
    " WHERE s.kind = 'upper' AND i.created_at < ? AND EXISTS (SELECT 1 FROM blobs b WHERE b.digest = i.diff_id)"
)
_UNUSED_FLAT_SNAPSHOTS: Final = "SELECT path FROM idle_snapshots WHERE diff_id IS NULL"


def _column(connection: sqlite3.Connection, sql: str, *parameters: object) -> list[str]:
    return [row[0] for row in connection.execute(sql, parameters)]


def _remove_names(connection: sqlite3.Connection, of: tuple[str, str], target: str, plan: _Plan, untagged: str) -> None:
    """of: _OF_IMAGE or _OF_INDEX, which is what the target is."""
    select, delete = of
    names = _column(connection, select, target)
    plan.lines += [f"{untagged}: {Reference.parse(name).familiar}" for name in names]
    connection.execute(delete, (target,))


def _remove_image(connection: sqlite3.Connection, image_id: str, plan: _Plan, untagged: str, deleted: str) -> None:
    _remove_names(connection, _OF_IMAGE, image_id, plan, untagged)
    plan.lines.append(f"{deleted}: {image_id}")
    plan.images.append(image_id)
    connection.execute("DELETE FROM image_layers WHERE image_id = ?", (image_id,))
    connection.execute("DELETE FROM repo_digests WHERE image_id = ?", (image_id,))
    connection.execute("DELETE FROM images WHERE id = ?", (image_id,))


def _remove_index(connection: sqlite3.Connection, digest: str, plan: _Plan, untagged: str, deleted: str) -> list[str]:
    """Remove its rows and names; returns the images that only it had."""
    _remove_names(connection, _OF_INDEX, digest, plan, untagged)
    plan.lines.append(f"{deleted}: {digest}")
    images = _column(connection, _ONLY_OF_THIS_INDEX, digest)
    connection.execute("DELETE FROM index_entries WHERE index_digest = ?", (digest,))
    connection.execute("DELETE FROM index_blobs WHERE index_digest = ?", (digest,))
    connection.execute("DELETE FROM indexes WHERE digest = ?", (digest,))
    return images


def _remove_layers(connection: sqlite3.Connection, diff_ids: Iterable[str], plan: _Plan) -> None:
    removed = list(diff_ids)
    for diff_id in removed:
        plan.snapshots += _column(
            connection, "SELECT path FROM snapshots WHERE path IS NOT NULL AND diff_id = ?", diff_id
        )
        connection.execute("DELETE FROM snapshots WHERE diff_id = ?", (diff_id,))
        connection.execute("DELETE FROM compressed WHERE diff_id = ?", (diff_id,))
        connection.execute("DELETE FROM layers WHERE diff_id = ?", (diff_id,))
        connection.executemany(_MEMO_OF, [(kind, diff_id) for kind in OF_LAYERS])
    if removed:
        connection.executemany(_MEMOS_OF_NO_LAYER, [(kind,) for kind in NAMING_LAYERS])


def _remove_blobs(connection: sqlite3.Connection, digests: Iterable[str], plan: _Plan) -> None:
    """Remove the rows of those blobs that nothing needs."""
    for digest in digests:
        if _column(connection, "SELECT digest FROM garbage_blobs WHERE digest = ?", digest):
            connection.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
            plan.blobs.append(digest)
