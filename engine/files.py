"""The files of containers, from outside: ``cp``, ``export``, ``diff``, ``commit``."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from containers.errors import KeeperError, StateError
from containers.extras import DOCKERS_MARKS
from core.cancellation import check
from core.digests import Digest
from core.references import Reference
from engine import locking, spec
from engine.archive import copy_in, copy_out, look
from engine.changes import Change, changes
from engine.committing import commit
from engine.errors import ConflictError
from engine.fields import Fields
from engine.inside import Running, Stopped, Tree
from engine.instructions import changed
from engine.keepers import Keepers
from engine.lifecycle import Lifecycle
from engine.places import Places
from engine.records import Records
from engine.state import read
from engine.views import Views
from images.diff import write_tree
from images.errors import ImageNotFoundError
from images.oci import ImageConfig
from images.tarwriter import TarWriter

if TYPE_CHECKING:
    from images.store import Store

_PATIENCE_S: Final = 10.0
_LOOK_EACH_S: Final = 0.02


class Files:
    """The files of one root's containers."""

    def __init__(
        self,
        places: Places,
        records: Records,
        life: Lifecycle,
        keepers: Keepers,
        store: Callable[[], AbstractContextManager[Store]],
        note: Callable[..., None],
        denied_networks: str,
    ) -> None:
        self._places = places
        self._records = records
        self._life = life
        self._keepers = keepers
        self._store = store
        self._note = note
        self._denied_networks = denied_networks

    def stat(self, ref: str, path: str) -> dict[str, Any]:
        """What is at a path; see ``archive.look``. Raises PathNotFoundError."""
        with self._tree(ref) as tree:
            return look(tree, path)

    def copy_out(self, ref: str, path: str, sink: int) -> dict[str, Any]:
        """Write a tar of what is at a path to a descriptor; see ``archive.copy_out``. Raises PathNotFoundError."""
        row = self._records.container(ref)
        with self._tree(row.id) as tree:
            found = copy_out(tree, path, sink)
        self._note(row, "archive-path")
        return found

    def copy_in(self, ref: str, path: str, tar: BinaryIO, *, owners: bool = False, no_overwrite: bool = False) -> None:
        """Unpack a tar, compressed or not, into the directory at a path; see ``archive.copy_in``."""
        from images.compression import DecompressingReader

        row = self._records.container(ref)
        with self._store() as store, tempfile.TemporaryFile(dir=store.tmp) as spooled:
            shutil.copyfileobj(DecompressingReader(tar), spooled)
            spooled.seek(0)
            with self._tree(row.id) as tree:
                copy_in(tree, path, spooled, owners=owners, no_overwrite=no_overwrite)
        self._note(row, "extract-to-dir")

    def export(self, ref: str, sink: BinaryIO) -> None:
        """Write a tar of its root file system, without what is mounted on it, and with docker's marks."""
        row = self._records.container(ref)
        document = spec.read(self._places.container(row.id))
        with self._store() as store, Views(store.tmp, self._denied_networks) as views:
            view = views.whole(store, document)
            try:
                writer = TarWriter(sink)
                write_tree(view, writer)
                for mark in DOCKERS_MARKS:
                    name = mark.removeprefix("/")
                    with contextlib.suppress(FileNotFoundError):
                        os.stat(name, dir_fd=view, follow_symlinks=False)
                        continue
                    writer.file(name.encode(), 0o755, 0, 0, int(row.created_ns // 1_000_000_000), 0, b"")
                writer.close()
            finally:
                os.close(view)
        self._note(row, "export")

    def changes(self, ref: str) -> list[Change]:
        """What it changed in its root file system, sorted by path."""
        directory = self._places.container(self._records.container(ref).id)
        document = spec.read(directory)
        with self._store() as store, Views(store.tmp, self._denied_networks) as views:
            return changes(directory / "upper" / "fs", functools.partial(views.lower, store, document))

    def commit(
        self,
        ref: str,
        name: Reference | None,
        *,
        comment: str = "",
        author: str = "",
        pause: bool = True,
        config: Mapping[str, Any] | None = None,
        instructions: list[str] | None = None,
    ) -> str:
        """Make an image of it, and return the image's ID.

        pause: it is frozen meanwhile, if it runs. config: docker's Config, which replaces the container's.
        instructions: as CMD, ENV and so on in a Dockerfile, applied to that. Raises InvalidRequestError.
        """
        row = self._records.container(ref)
        document = spec.read(self._places.container(row.id))
        asked = {key: value for key, value in document["asked"].items() if key != "HostConfig"}
        wanted = changed({**asked, **(config or {})}, instructions or [])
        Fields(wanted, "Config")
        with self._store() as store, Views(store.tmp, self._denied_networks) as views, self._held(row.id, pause=pause):
            image = commit(
                store,
                document,
                _base(store, document),
                functools.partial(views.lower, store, document),
                wanted,
                name=name,
                comment=comment,
                author=author,
            )
            self._note(row, "commit", comment=comment, imageID=str(image.id), imageRef=name.familiar if name else "")
        return str(image.id)

    @contextlib.contextmanager
    def _tree(self, ref: str) -> Iterator[Tree]:
        """Its files, for as long as the block takes. Who else has those of one that does not run is waited for."""
        row = self._records.container(ref)
        directory = self._places.container(row.id)
        end = time.monotonic() + _PATIENCE_S
        while not (state := read(directory)).has_process:
            with self._store() as store:  # which holds what is mounted
                self._life.make_ready(row)
                document = spec.read(directory)
                lock = locking.take(directory, make=True)
                if lock is not None:
                    try:
                        yield Stopped(store.tmp, document["layers"], document["upper"], document["mounts"])
                    finally:
                        os.close(lock)
                    return
            if time.monotonic() > end:
                what = "is being started or removed, or somebody copies its files"
                raise ConflictError(f"container {row.id} {what}", hint="try again in a moment")
            check()
            time.sleep(_LOOK_EACH_S)
        yield Running(self._keepers, row.id, state.pid)

    @contextlib.contextmanager
    def _held(self, identity: str, *, pause: bool) -> Iterator[None]:
        """Have its processes stand still, if there are any that move."""
        paused = False
        if pause and read(self._places.container(identity)).status == "running":
            with contextlib.suppress(KeeperError, StateError), self._keepers.connect(identity) as keeper:
                keeper.ask("pause")
                paused = True
        try:
            yield
        finally:
            if paused:
                with contextlib.suppress(KeeperError, StateError), self._keepers.connect(identity) as keeper:
                    keeper.ask("unpause")


def _base(store: Store, document: Mapping[str, Any]) -> ImageConfig:
    """The config of its image; when that is gone by now, an empty one."""
    from core.platforms import Platform

    try:
        return store.images.get(Digest(document["image"])).config
    except ImageNotFoundError:
        return ImageConfig.for_platform(Platform.host())
