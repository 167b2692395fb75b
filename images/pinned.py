"""Pins: what a container needs of this store for as long as the container exists, whether it runs or not.

A holder (a container's ID) pins an image, its layers, and the snapshots that many layers were merged into. No lease has
to be held meanwhile: the container outlives whoever made it. ``collect.py`` and ``cacheuse.py`` spare what is pinned,
with the snapshots made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from core.digests import DiffID, Digest
from images.blobs import BlobStore
from images.database import Database
from images.errors import MissingBlobError
from images.sessions import Session
from images.snapshots import merged_key

_KNOWN: Final = "SELECT 1 FROM known_layers WHERE diff_id = ?"


class Pinned:
    """The pins of one store. Thread-safe."""

    def __init__(self, database: Database, session: Session, blobs: BlobStore) -> None:
        self._database = database
        self._session = session
        self._blobs = blobs

    def pin(self, holder: str, image: Digest | None, layers: Sequence[DiffID]) -> None:
        """Keep an image and its layers for a holder, until ``drop``; durable when it returns.

        image: None for layers of no image. A second call adds. Raises MissingBlobError when a layer is unknown here:
        nothing is changed then.
        """
        layers = list(dict.fromkeys(layers))
        self._session.lease(layers)
        self._blobs.make_durable(layers)
        merged = merged_key(layers)
        objects = [*layers, *([image] if image is not None else ()), *([merged] if merged is not None else ())]
        with self._database.transaction(durable=True) as connection:
            for layer in layers:
                if connection.execute(_KNOWN, (layer,)).fetchone() is None:
                    raise MissingBlobError(f"layer {layer}, which container {holder[:12]} needs, is not in the store")
            connection.executemany(
                "INSERT OR IGNORE INTO container_pins (holder, object) VALUES (?, ?)", [(holder, o) for o in objects]
            )

    def drop(self, holders: Iterable[str]) -> None:
        """Let go of all that these hold. Those that hold nothing are passed over."""
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM container_pins WHERE holder = ?", [(holder,) for holder in holders])

    def holders(self) -> list[str]:
        """Everybody who holds something, sorted."""
        return [holder for (holder,) in self._database.all("SELECT DISTINCT holder FROM container_pins ORDER BY 1")]

    def holders_of(self, image: Digest) -> list[str]:
        """Who holds this image, sorted."""
        rows = self._database.all("SELECT holder FROM container_pins WHERE object = ? ORDER BY 1", (image,))
        return [holder for (holder,) in rows]
