"""Letting containers exist no longer, and clearing away what a kill has left of any.

Removed: the row; the volumes; the directory, renamed aside; the pins. Whoever makes or removes a container holds its
lock all the while (``making``). So a directory, or pins, without a row and without a holder of the lock are what
somebody was killed over. The next who makes or removes anything clears them away (``tidy``), with the anonymous volumes
that the directory's file ``doomed`` names: all of a container that is being made, and those that go with one that is
being removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.errors import StorageFullError
from core.files import write_atomically
from engine import locking
from engine.places import Places
from engine.records import Records, Row
from engine.volumes import Volumes
from images.trees import remove_tree

if TYPE_CHECKING:
    from images.store import Store

NEW: Final = ".new-"
"""How directories begin of containers that are being made."""

_GONE, _DOOMED = ".gone-", "doomed"
_MOST_TRIES: Final = 100


class Remover:
    """Removes the containers of one root. store: opens it for a context; asked only when needed."""

    def __init__(
        self,
        places: Places,
        records: Records,
        store: Callable[[], contextlib.AbstractContextManager[Store]],
        note: Callable[..., None],
        volumes: Volumes,
    ) -> None:
        self._places = places
        self._records = records
        self._store = store
        self._note = note
        self._volumes = volumes

    def remove(self, row: Row, lock: int | None, *, volumes: bool) -> None:
        """Let a container exist no longer. lock: its lock's descriptor, which is closed when all is gone; None: its
        keeper holds it, and waits.

        volumes: its anonymous ones go with it.
        """
        directory = self._places.container(row.id)
        names = self._records.volumes_of(row.id)
        try:
            with contextlib.suppress(OSError, StorageFullError):  # at worst a kill leaves volumes
                doom(directory, names if volumes else [])
            try:
                was_there = self._records.remove(row.id)
            except StorageFullError:
                for below in ("upper/fs", "log"):  # its own files are what may be given up first
                    remove_tree(str(directory / below))
                was_there = self._records.remove(row.id)
            if was_there:
                self._note(row, "destroy")
            if volumes:  # while the directory says so, should this be the last that happens
                self._volumes.remove_anonymous(names)
            gone = self._places.containers / f"{_GONE}{row.id}"
            with contextlib.suppress(FileNotFoundError):
                os.rename(directory, gone)
            discard(gone)
            with self._store() as store:
                store.pinned.drop([row.id])
        finally:
            if lock is not None:
                os.close(lock)

    def tidy(self, store: Store) -> None:
        """Clear away what somebody was killed over: directories and pins that no row and no lock speaks for."""
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(self._places.containers):
                identity = entry.removeprefix(NEW).removeprefix(_GONE)
                if entry != identity or not self._records.exists(identity):
                    self._clear(self._places.containers / entry, identity)
        for holder in store.pinned.holders():
            # Asked last, for the row comes before the lock goes.
            if not self._is_under_way(holder) and not self._records.exists(holder):
                store.pinned.drop([holder])

    def _clear(self, directory: Path, identity: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            lock = locking.take(directory, make=True)
            if lock is None:
                return  # somebody is at it
            try:
                if not locking.is_of(lock, directory):
                    return  # another one has cleared it away
                # With the lock nobody else can let it exist. A creator lets go of it only when there is a row.
                if directory.name == identity and self._records.exists(identity):
                    return
                if not directory.name.startswith(_GONE):
                    # Its creator may be about to take the lock: not one in a directory that is being emptied.
                    gone = directory.with_name(f"{_GONE}{identity}-{os.urandom(4).hex()}")
                    os.rename(directory, gone)
                    directory = gone
                self._volumes.remove_anonymous(_doomed(directory))
                discard(directory)
            finally:
                os.close(lock)

    def _is_under_way(self, identity: str) -> bool:
        places = self._places.containers
        return any(locking.is_held(places / f"{prefix}{identity}") for prefix in (NEW, "", _GONE))


def discard(directory: Path) -> None:
    """Remove a directory whose lock the caller has. Who looks for what a kill has left makes the lock's file in it once
    more when that has been removed before the directory.
    """
    for _ in range(_MOST_TRIES):
        try:
            remove_tree(str(directory))
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        else:
            return
    remove_tree(str(directory))


def doom(directory: Path, volumes: Sequence[str]) -> None:
    """Write down which volumes go with the directory, if it is found without a row. Raises OSError."""
    if volumes:
        write_atomically(directory / _DOOMED, "\n".join(volumes).encode(), mode=0o600)
    else:
        (directory / _DOOMED).unlink(missing_ok=True)


def _doomed(directory: Path) -> list[str]:
    try:
        return (directory / _DOOMED).read_text(encoding="ascii").split()
    except (FileNotFoundError, NotADirectoryError):
        return []
