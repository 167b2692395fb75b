"""The workspace of one attempt of a job: what its container mounts, and the layer of what it left there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from ci.epoch import BEGINNING
from ci.model import Output
from ci.workspace.mask import make_mask
from ci.workspace.outputs import write_outputs
from ci.workspace.stack import Stack
from containers.launcher import Launcher
from containers.spec import Tree
from core.closing import Closing
from core.digests import DiffID
from core.errors import StorageFullError
from core.files import storage_errors
from core.rootfs import DirectoryLayer, RootLayer
from images.behind import Behind
from images.diff import write_upper
from images.errors import ImagesError
from images.retiming import retimed
from images.snapshots import Upper
from images.store import Store
from images.survey import Survey
from images.tarwriter import TarWriter

PLACE: Final = "/work"
"""Where jobs find it."""


class Workspace(Closing):
    """The files that a stack shows, with a directory of their own for what the job writes.

    Made by: whoever runs an attempt of a job, which has it alone.
    Threads: one at a time.
    Ended by: ``close``, which throws away what the job wrote. A session that dies leaves nothing either.
    """

    def __init__(self, store: Store, launcher: Launcher, stack: Stack, began_ns: int | None = None) -> None:
        """Make it. Raises what ``Snapshots.lowers`` and ``retimed`` raise, InputsError, StorageFullError.

        began_ns: the time of all its files, in nanoseconds since the epoch; None: the one that they always have.
        """
        self._store = store
        self._launcher = launcher
        self._mounted: set[str] = set()
        self._below = tuple(stack.layers)
        self._is_large = False  # what it output
        self._began_ns = BEGINNING * 1_000_000_000 if began_ns is None else began_ns
        with contextlib.ExitStack() as undo:
            self._mask: Upper | None = None
            layers = store.snapshots.lowers(stack.layers)
            if began_ns is not None:
                layers = tuple(retimed(layer, self._new_upper((), undo).path, began_ns) for layer in layers)
            self._upper = self._new_upper(layers, undo)
            self._layers: tuple[RootLayer, ...] = layers
            if stack.hidden:
                self._mask = mask = self._new_upper(layers, undo)
                with storage_errors("a workspace"):
                    make_mask(_files(mask), stack.hidden, stack.mode_of)
                self._layers = (*layers, DirectoryLayer(_files(mask)))
            self._begin(_files(self._upper))
            self._held = undo.pop_all()

    @property
    def began_s(self) -> int:
        """The time that all its files begin with, in whole seconds since the epoch."""
        return self._began_ns // 1_000_000_000

    @property
    def upper(self) -> str:
        """The directory that fills while the job runs, for watching how much it writes."""
        return self._upper.path

    @property
    def written(self) -> str:
        """The directory with what the job wrote, once its container has ended."""
        return _files(self._upper)

    def mount(self, target: str = PLACE, *, places: Sequence[str] = ()) -> Tree:
        """What the container mounts.

        places: names in its root directory at which something else is going to be mounted; directories are made for
        them, and what is seen there is never an output.
        """
        with storage_errors("a workspace"):
            for name in places:
                os.mkdir(f"{_files(self._upper)}/{name}", 0o755)
                self._begin(f"{_files(self._upper)}/{name}")
            self._begin(_files(self._upper))
        self._mounted.update(places)
        return Tree(self._layers, target, upper=self._upper.path)

    def take_outputs(self, outputs: Sequence[Output], *, mounted: Collection[str] = ()) -> DiffID | None:
        """Write the layer of what the job left, once its container has ended. None: there is nothing in it.

        mounted: further paths in the workspace at which something else was mounted.
        The layer is durable. Raises OutputsError, LayerSourceError, StorageFullError.
        """
        if not outputs:
            return None
        snapshots = self._store.snapshots
        with contextlib.ExitStack() as held, self._store.layers.writer() as blob, snapshots.feed(blob) as feed:
            with Behind(feed) as sink:
                writer = TarWriter(sink)
                write_outputs(
                    _files(self._upper),
                    lambda: held.enter_context(self._view()),
                    writer,
                    outputs,
                    mounted=self._mounted.union(mounted),
                )
                writer.close()
            if not writer.entries:
                return None
            layer = blob.commit()
            if not writer.marks:
                snapshots.note_survey(layer, Survey(writer.entries, {}, False, False, None))
            if snapshots.fed(layer, feed):
                self._is_large = True
                with contextlib.suppress(ImagesError, StorageFullError):  # whoever mounts it is told what is wrong
                    snapshots.lowers((*self._below, layer))
            return layer

    def layers_left(self) -> tuple[tuple[DiffID, ...], int]:
        """Write all that the workspace shows as layers, base first, once its container has ended.

        Returns them, and the bytes of what the job wrote. What a layer cannot have, as sockets, is left out. The layers
        are durable. Raises LayerSourceError, StorageFullError.
        """
        shown = list(self._below)
        if self._mask is not None:
            below = self._layers[:-1]
            shown.append(upper_layer(self._store, self._launcher, self._mask, below))
        shown.append(upper_layer(self._store, self._launcher, self._upper, self._layers))
        return tuple(shown), self._store.layers.size(shown[-1])

    def close(self) -> None:
        """Throw away what the job wrote. What takes long to remove is gone later: the next job need not wait."""
        self._held.close()

    def _new_upper(self, below: Sequence[RootLayer], undo: contextlib.ExitStack) -> Upper:
        upper = self._store.snapshots.new_upper(below)
        undo.callback(self._discard, upper)
        return upper

    def _discard(self, upper: Upper) -> None:
        snapshots = self._store.snapshots
        (snapshots.leave if self._is_large else snapshots.discard)(upper)

    def _begin(self, directory: str) -> None:
        """Give a directory of ours the time that all files of the workspace begin with."""
        os.utime(directory, ns=(self._began_ns, self._began_ns))

    @contextlib.contextmanager
    def _view(self) -> Iterator[int | None]:
        """A descriptor of what the job began with."""
        if not self._layers:
            yield None
            return
        fd = self._launcher.view(self._layers)
        try:
            yield fd
        finally:
            os.close(fd)


def upper_layer(store: Store, launcher: Launcher, upper: Upper, below: Sequence[RootLayer]) -> DiffID:
    """Write what an upper directory changed of the layers below it as a layer, once nothing uses it any more.

    Raises LayerSourceError, StorageFullError.
    """
    with contextlib.ExitStack() as held, store.layers.writer() as blob:

        def view() -> int | None:
            if not below:
                return None
            fd = launcher.view(tuple(below))
            held.callback(os.close, fd)
            return fd

        with Behind(blob) as sink:
            writer = TarWriter(sink)
            write_upper(_files(upper), view, writer, root=upper.root)
            writer.close()
        return blob.commit()


def _files(upper: Upper) -> str:
    return f"{upper.path}/fs"
