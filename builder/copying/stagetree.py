"""A stage's files, of which the large ones are read from the tars of its layers.

A stage is mounted by indexes over its tars. Whoever reads a file there makes the kernel copy it into a page cache of
the index's own, beside the tar's: for a gigabyte of fresh memory that takes longer than hashing and writing it.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from builder.contexts.filetree import LayerTar, SelectedFile, SourceTree
from core.digests import DiffID
from core.rootfs import DirectoryLayer, ErofsLayer, RootLayer
from images.errors import InvalidLayerError
from images.tarheaders import FILE, normalise
from images.tarreader import TarEntry, TarReader
from images.tarwriter import Stretch

LARGE_BYTES: Final = 8 << 20
"""Files from this size on are looked for in the layers."""


class _Place(NamedTuple):
    tar: LayerTar
    entry: TarEntry
    offset: int


class StageTree(SourceTree):
    """The filesystem of a stage, mounted at ``fd``.

    layers: what is mounted, base first.
    stack: closes what the tree opens.
    """

    def __init__(self, fd: int, label: str, layers: Sequence[RootLayer], stack: contextlib.ExitStack) -> None:
        super().__init__(fd, label)
        self._layers = layers
        self._stack = stack
        self._places: dict[str, _Place] = {}

    def expect(self, entries: Iterable[SelectedFile]) -> None:
        wanted = {os.fsencode(entry.tree_path) for entry in entries if entry.size >= LARGE_BYTES}
        for layer in reversed(self._layers):
            if not wanted:
                return
            if isinstance(layer, DirectoryLayer):  # its files are in memory as they are
                wanted = {path for path in wanted if not os.path.lexists(os.path.join(os.fsencode(layer.path), path))}
            else:
                with contextlib.suppress(OSError, InvalidLayerError):
                    wanted -= self._look_into(layer, wanted)
                    continue
                return  # what is in it decides, and cannot be told

    def stretch(self, entry: SelectedFile) -> Stretch | None:
        place = self._places.get(entry.tree_path) if entry.size >= LARGE_BYTES else None
        if place is None:
            return None
        found = place.entry
        of_tar = (found.size, found.mode, found.uid, found.gid, found.mtime)
        if of_tar != (entry.size, entry.mode & 0o7777, entry.uid, entry.gid, entry.mtime):
            return None
        return Stretch(place.tar.fd, place.offset, found.size)

    def main_layer(self) -> LayerTar | None:
        sizes: dict[LayerTar, int] = {}
        for place in self._places.values():
            sizes[place.tar] = sizes.get(place.tar, 0) + place.entry.size
        return next((tar for tar, size in sizes.items() if size * 2 > tar.size), None)

    def _look_into(self, layer: ErofsLayer, wanted: set[bytes]) -> set[bytes]:
        """The wanted paths that the layer has, in whatever form; notes those that are plain files."""
        file = self._stack.enter_context(io.FileIO(layer.device, "rb"))
        digest = DiffID(f"sha256:{os.path.basename(layer.device)}")
        tar = LayerTar(digest, file.fileno(), os.fstat(file.fileno()).st_size)
        found: set[bytes] = set()
        places: dict[str, _Place] = {}
        reader = TarReader(file, seekable=True)
        for entry in reader:
            path = normalise(entry.name)
            if path not in wanted:
                continue
            found.add(path)
            places.pop(os.fsdecode(path), None)  # the last one of a name counts
            if entry.kind == FILE and entry.extents is None:
                places[os.fsdecode(path)] = _Place(tar, entry, reader.offset)
        self._places.update(places)  # now that the tar was read to its end
        return found
