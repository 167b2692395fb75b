"""Garbage collection: what to remove is decided in one transaction, files go after it, each under its own check.

Kept is what an image, a cache record or a living session's lease refers to. First the rows go, durably: from then on
the content does not exist. A file is then taken out of its place inside a write transaction that has made sure that
neither row nor lease has come back. Killed in between, the file is an orphan; the next prune finds it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from core.errors import StorageFullError
from core.references import Reference
from images.database import Database
from images.sessions import Session, reclaim_all, remove_orphan_snapshots
from images.trees import remove_tree

_BATCH: Final = 200  # files per write transaction: others wait no longer than that takes
_FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class PruneReport:
    """lines: what docker would print. freed_bytes: on disk. images, records: how many went."""

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

        An image that another session has leased (it may be about to name it) loses its names only.
        """

        def plan(connection: sqlite3.Connection) -> _Plan:
            made = _Plan()
            layers: list[str] = []
            blobs: list[str] = []
            for image_id in ids:
                if _column(connection, _LEASED_BY_ANOTHER, image_id, self._session.id):
                    _remove_names(connection, image_id, made, "Untagged")
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

        return self._carry_out(plan, sweep=False)

    def prune(self, *, all_unused: bool, cache: bool, until: float | None) -> PruneReport:
        """See ImageStore.prune."""
        before = _FOREVER if until is None else until

        def plan(connection: sqlite3.Connection) -> _Plan:
            made = _Plan()
            for image_id in _column(connection, _PRUNABLE_IMAGES, before):
                if all_unused or not _column(connection, "SELECT name FROM names WHERE image_id = ?", image_id):
                    _remove_image(connection, image_id, made, "untagged", "deleted")
            made.records = connection.execute(_RECORDS_WITHOUT_LAYER).rowcount
            if cache:
                made.records += connection.execute(_UNUSED_RECORDS, (before,)).rowcount
                connection.execute("DELETE FROM memo WHERE used_at < ?", (before,))
                made.snapshots += _column(connection, _UNUSED_SNAPSHOTS, before)
            _remove_layers(connection, _column(connection, "SELECT diff_id FROM garbage_layers"), made)
            made.snapshots += _column(connection, _UNUSED_FLAT_SNAPSHOTS)
            connection.executemany("DELETE FROM snapshots WHERE path = ?", [(path,) for path in made.snapshots])
            _remove_blobs(connection, _column(connection, "SELECT digest FROM garbage_blobs"), made)
            return made

        return self._carry_out(plan, sweep=True)

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
        freed = 0
        if sweep:
            # Before anything that needs space: this may be a full disk's only relief.
            freed += self._remove_files(self._files_without_row())
        reclaim_all(self._root, self._database)
        with self._database.transaction(durable=True) as connection:
            made = plan(connection)
        freed += self._remove_files(made.blobs)
        for name in made.snapshots:
            freed += self._remove_snapshot(name)
        if sweep:
            freed += remove_orphan_snapshots(self._root, self._database)
        return PruneReport(made.lines, len(made.images), made.records, freed)

    def _files_without_row(self) -> list[str]:
        known = {digest for (digest,) in self._database.all("SELECT digest FROM blobs")}
        with os.scandir(self._root / "blobs" / "sha256") as entries:
            digests = [f"sha256:{entry.name}" for entry in entries]
        return [digest for digest in digests if digest not in known]

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


_IN_USE: Final = "SELECT 1 FROM blobs WHERE digest = ? UNION ALL SELECT 1 FROM leases WHERE object = ? LIMIT 1"
_LEASED_BY_ANOTHER: Final = "SELECT session FROM leases WHERE object = ? AND session <> ? LIMIT 1"
_PRUNABLE_IMAGES: Final = (
    "SELECT id FROM images WHERE created_at < ? AND NOT EXISTS (SELECT 1 FROM leases WHERE object = images.id)"
    " ORDER BY created_at"
)
_RECORDS_WITHOUT_LAYER: Final = (
    "DELETE FROM records WHERE diff_id IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM layers WHERE layers.diff_id = records.diff_id)"
)
_UNUSED_RECORDS: Final = (
    "DELETE FROM records WHERE used_at < ? AND NOT EXISTS (SELECT 1 FROM leases WHERE object = records.diff_id)"
)
_OLD_GARBAGE_BLOBS: Final = "SELECT digest FROM garbage_blobs JOIN blobs USING (digest) WHERE created_at < ?"
_UNUSED_SNAPSHOTS: Final = "SELECT path FROM idle_snapshots WHERE created_at < ?"
_UNUSED_FLAT_SNAPSHOTS: Final = "SELECT path FROM idle_snapshots WHERE diff_id IS NULL"


def _column(connection: sqlite3.Connection, sql: str, *parameters: object) -> list[str]:
    return [row[0] for row in connection.execute(sql, parameters)]


def _remove_names(connection: sqlite3.Connection, image_id: str, plan: _Plan, untagged: str) -> None:
    names = _column(connection, "SELECT name FROM names WHERE image_id = ? ORDER BY name", image_id)
    plan.lines += [f"{untagged}: {Reference.parse(name).familiar}" for name in names]
    connection.execute("DELETE FROM names WHERE image_id = ?", (image_id,))


def _remove_image(connection: sqlite3.Connection, image_id: str, plan: _Plan, untagged: str, deleted: str) -> None:
    _remove_names(connection, image_id, plan, untagged)
    plan.lines.append(f"{deleted}: {image_id}")
    plan.images.append(image_id)
    connection.execute("DELETE FROM image_layers WHERE image_id = ?", (image_id,))
    connection.execute("DELETE FROM images WHERE id = ?", (image_id,))


def _remove_layers(connection: sqlite3.Connection, diff_ids: Iterable[str], plan: _Plan) -> None:
    for diff_id in diff_ids:
        plan.snapshots += _column(
            connection, "SELECT path FROM snapshots WHERE path IS NOT NULL AND diff_id = ?", diff_id
        )
        connection.execute("DELETE FROM snapshots WHERE diff_id = ?", (diff_id,))
        connection.execute("DELETE FROM compressed WHERE diff_id = ?", (diff_id,))
        connection.execute("DELETE FROM layers WHERE diff_id = ?", (diff_id,))


def _remove_blobs(connection: sqlite3.Connection, digests: Iterable[str], plan: _Plan) -> None:
    """Remove the rows of those blobs that nothing needs."""
    for digest in digests:
        if _column(connection, "SELECT digest FROM garbage_blobs WHERE digest = ?", digest):
            connection.execute("DELETE FROM blobs WHERE digest = ?", (digest,))
            plan.blobs.append(digest)
