"""What runs keep: layers and images that no image, no cache record and no living session may have any more.

A row has a name (of a run and its job), what it keeps, and until when. ``collect.py`` spares what a row names until
then. The row goes as a whole: with the first prune after that, or when it is dropped. What it named is garbage then,
unless something else has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from core.digests import DiffID, Digest
from images.blobs import BlobStore
from images.database import Database
from images.errors import MissingBlobError
from images.holdings import Holdings
from images.sessions import Session

_LAYER: Final = "SELECT 1 FROM sound_layers WHERE diff_id = ?"
_IMAGE: Final = "SELECT 1 FROM images WHERE id = ?"


class KeptThings(NamedTuple):
    """What one row keeps. until: seconds since the epoch."""

    name: str
    layers: tuple[DiffID, ...]
    images: tuple[Digest, ...]
    until: float


class Kept:
    """The rows of one store. Thread-safe. Names are the caller's; nobody else's rows are touched."""

    def __init__(self, database: Database, session: Session, blobs: BlobStore, holdings: Holdings) -> None:
        self._database = database
        self._session = session
        self._blobs = blobs
        self._holdings = holdings

    def keep(self, name: str, layers: Sequence[DiffID], images: Sequence[Digest] = (), *, until: float) -> None:
        """Keep these until a time; durable when it returns. A row of this name is replaced as a whole.

        Raises MissingBlobError when one is not in the store: nothing is changed then.
        """
        layers, images = list(dict.fromkeys(layers)), list(dict.fromkeys(images))
        self._session.lease((*layers, *images))
        self._blobs.make_durable(layers)  # (Images are durable since they were put.)
        with self._database.transaction(durable=True) as connection:
            for sql, objects in ((_LAYER, layers), (_IMAGE, images)):
                for each in objects:
                    if connection.execute(sql, (each,)).fetchone() is None:
                        raise MissingBlobError(f"{each}, which {name} is to keep, is not in the store")
            connection.execute("DELETE FROM kept WHERE name = ?", (name,))
            connection.execute("INSERT INTO kept VALUES (?, ?)", (name, until))
            rows = [(name, place, each, place >= len(layers)) for place, each in enumerate((*layers, *images))]
            connection.executemany("INSERT INTO kept_objects VALUES (?, ?, ?, ?)", rows)

    def shorten(self, names: Iterable[str], until: float) -> None:
        """Keep what these rows name until then at most; a time that is earlier stays."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE kept SET until = ?1 WHERE name = ?2 AND until > ?1", [(until, name) for name in names]
            )

    def prolong(self, names: Iterable[str], until: float) -> None:
        """Keep what these rows name until then at least; a time that is later stays."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE kept SET until = ?1 WHERE name = ?2 AND until < ?1", [(until, name) for name in names]
            )

    def drop(self, names: Iterable[str]) -> None:
        """Keep these no longer. Those that are not there are passed over."""
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM kept WHERE name = ?", [(name,) for name in names])

    def get(self, name: str) -> KeptThings | None:
        """What a row keeps; all of it is here for this session. None: there is no such row, or part of it is lost.

        A row that has expired counts until a prune has removed it.
        """
        found = self._read(name)
        if found is None:
            return None
        self._session.lease((*found.layers, *found.images))
        if self._read(name) != found:  # a prune came before the lease
            return None
        for each in found.layers:
            if self._database.one(_LAYER, (each,)) is None:
                return None
        self._holdings.admit(found.layers)
        return found

    def names(self, prefix: str = "") -> list[str]:
        """The names of all rows that begin so, sorted."""
        sql = "SELECT name FROM kept WHERE substr(name, 1, ?) = ? ORDER BY name"
        rows = self._database.all(sql, (len(prefix), prefix))
        return [name for (name,) in rows]

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """By the names of rows that begin so, the bytes of the layers that they keep; shared ones count for each."""
        sql = """SELECT kept.name, coalesce(sum(layers.size), 0) FROM kept
            LEFT JOIN kept_objects ON kept_objects.name = kept.name AND NOT is_image
            LEFT JOIN layers ON layers.diff_id = object
            WHERE substr(kept.name, 1, ?) = ? GROUP BY kept.name"""
        return dict(self._database.all(sql, (len(prefix), prefix)))

    def _read(self, name: str) -> KeptThings | None:
        row = self._database.one("SELECT until FROM kept WHERE name = ?", (name,))
        if row is None:
            return None
        rows = self._database.all("SELECT object, is_image FROM kept_objects WHERE name = ? ORDER BY position", (name,))
        layers = tuple(DiffID(digest) for digest, is_image in rows if not is_image)
        return KeptThings(name, layers, tuple(Digest(digest) for digest, is_image in rows if is_image), row[0])
