"""File trees of containers that do not run, to look into: their layers, and what they wrote, merged read-only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containers.launcher import Launcher
from core.closing import Closing
from core.digests import DiffID
from core.rootfs import DirectoryLayer, RootLayer

if TYPE_CHECKING:
    from images.store import Store


class Views(Closing):
    """Makes views by a launcher of its own, which ends with it. A view is closed by whoever asked for it.

    Links in a view lead anywhere: resolve with openat2 RESOLVE_IN_ROOT.
    """

    def __init__(self, state: Path, denied_networks: str = "") -> None:
        """state: a private directory."""
        self._stack = ExitStack()
        self._launcher = self._stack.enter_context(Launcher(state, denied_networks=denied_networks))

    def of(self, layers: Sequence[RootLayer]) -> int:
        """A descriptor of these layers, merged; at least one."""
        return self._launcher.view(layers)

    def lower(self, store: Store, document: Mapping[str, Any]) -> int | None:
        """A descriptor of a container's layers, merged; None when it has none. document: ``spec.json``."""
        layers = store.snapshots.lowers([DiffID(diff_id) for diff_id in document["diff_ids"]])
        return self._launcher.view(layers) if layers else None

    def whole(self, store: Store, document: Mapping[str, Any]) -> int:
        """A descriptor of its layers with what it wrote on top."""
        layers = store.snapshots.lowers([DiffID(diff_id) for diff_id in document["diff_ids"]])
        return self._launcher.view((*layers, DirectoryLayer(f"{document['upper']}/fs")))

    def close(self) -> None:
        self._stack.close()
