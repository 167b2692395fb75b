"""A step's root filesystem while the build runs: its layers. The newest may not have been written as tars yet.

A RUN's upper directory serves as the next step's lower as soon as the command has ended. Its tar, and so its diff ID,
follow on the stage's writer thread. Whoever needs the diff ID waits for it here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from builder.graph.promise import Promise
from core.digests import ChainID, DiffID, chain_id, chain_on
from core.rootfs import DirectoryLayer, RootLayer

if TYPE_CHECKING:
    from images.snapshots import Snapshots


class WrittenLayer(msgspec.Struct, frozen=True):
    """A layer in the store, and when its step ended (seconds since the epoch)."""

    diff_id: DiffID
    created_at: float


class LayerHandle(msgspec.Struct, frozen=True, eq=False):
    """One layer, in the store or on its way there. Until then, the finished upper ``directory`` stands for it."""

    written: Promise[WrittenLayer] = msgspec.field(default_factory=Promise)
    directory: str | None = None

    @classmethod
    def known(cls, diff_id: DiffID, created_at: float = 0.0) -> LayerHandle:
        handle = cls()
        handle.written.resolve(WrittenLayer(diff_id, created_at))
        return handle

    @property
    def only_a_directory(self) -> bool:
        return self.directory is not None and self.written.pending


class RootFS(msgspec.Struct, frozen=True):
    """Layers, base first.

    below: all layers but the last, where that is known.
    found: holds the chain ID once somebody has asked for it.
    Both keep a stage of n steps from hashing n² layers.
    """

    layers: tuple[LayerHandle, ...] = ()
    below: RootFS | None = None
    found: list[ChainID] = msgspec.field(default_factory=list)

    def with_layer(self, layer: LayerHandle) -> RootFS:
        return RootFS((*self.layers, layer), self if self.layers else None)

    @property
    def pending(self) -> bool:
        return not self.found and any(layer.written.pending for layer in reversed(self.layers))

    def diff_ids(self) -> tuple[DiffID, ...]:
        """Wait for every layer. Raises what a writer raised."""
        return tuple(layer.written.wait().diff_id for layer in self.layers)

    def identity(self) -> str:
        """The chain ID, or empty for no layers at all. Waits for every layer."""
        if not self.layers:
            return ""
        unknown = []
        rootfs: RootFS | None = self
        while rootfs is not None and not rootfs.found:
            unknown.append(rootfs)
            rootfs = rootfs.below
        for each in reversed(unknown):
            if each.below is None:
                each.found.append(chain_id(each.diff_ids()))
            else:
                each.found.append(chain_on(each.below.found[0], each.layers[-1].written.wait().diff_id))
        return self.found[0]

    def lowers(self, snapshots: Snapshots) -> tuple[RootLayer, ...]:
        """What to mount, base first. Waits only where a tar is needed: under a layer that exists as a tar alone."""
        known = len(self.layers)
        while known and self.layers[known - 1].only_a_directory:
            known -= 1
        below = snapshots.lowers([layer.written.wait().diff_id for layer in self.layers[:known]])
        above = (DirectoryLayer(layer.directory) for layer in self.layers[known:] if layer.directory is not None)
        return (*below, *above)
