"""Holdings: what of the store's content counts as here for a session. Naming a digest gives no right to the content.

At the host's own command line that is everything. A build of the service holds

- what it wrote itself, and what a cache record gave it that it may read: for as long as its session lasts;
- what its project fetched before, or was shown by the registry that this store knows to have it.

All else counts as absent. It is fetched, and checked, from where the build found it. If that is a registry
that this store had the same blob from, and the blob was found to be the layer, nothing is fetched: the registry is only
asked, with the build's rights, whether it shows the blob.
"""

from __future__ import annotations

from collections.abc import Iterable

from core.digests import DiffID, Digest
from core.trust import HOST, Domain
from images.database import Database


class Holdings:
    """The holdings of one session. Thread-safe. domain: who it looks for; may be set once, before all else."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._admitted: set[str] = set()
        self.domain: Domain = HOST

    def has(self, diff_id: DiffID) -> bool:
        """Whether the layer, if the store has it, counts as here."""
        if self.domain.is_host or diff_id in self._admitted:
            return True
        for scope in self.domain.reads():
            if self._database.one("SELECT 1 FROM holdings WHERE scope = ? AND diff_id = ?", (scope, diff_id)):
                self._admitted.add(diff_id)
                return True
        return False

    def admit(self, diff_ids: Iterable[str]) -> None:
        """Let layers count as here for this session."""
        if not self.domain.is_host:
            self._admitted.update(diff_ids)

    def hold(self, diff_id: DiffID) -> None:
        """Let a layer count as here for the whole project from now on; a fork's pull request holds it alone."""
        if self.domain.is_host:
            return
        self._admitted.add(diff_id)
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO holdings VALUES (?, ?)", (self.domain.project_scope, diff_id))

    def note_pair(self, blob: Digest, diff_id: DiffID, registry: str) -> None:
        """Remember that the registry (``core.references.Reference.domain``) has this blob, and that it is the layer."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO pairs VALUES (?, ?, ?)", (blob, diff_id, registry))

    def is_pair(self, blob: Digest, diff_id: DiffID) -> bool:
        """Whether the blob was found to be the layer, wherever it came from."""
        if blob == diff_id:
            return True
        return (
            self._database.one(
                "SELECT 1 FROM pairs WHERE diff_id = ?1 AND blob = ?2"
                " UNION ALL SELECT 1 FROM compressed WHERE diff_id = ?1 AND digest = ?2 LIMIT 1",
                (diff_id, blob),
            )
            is not None
        )

    def is_pair_of(self, blob: Digest, diff_id: DiffID, registry: str) -> bool:
        """The same of a blob that this registry is known to have, so that its word for it counts."""
        row = self._database.one(
            "SELECT 1 FROM pairs WHERE diff_id = ? AND blob = ? AND registry = ?", (diff_id, blob, registry)
        )
        return row is not None
