"""Fetches an image's missing layers on demand, with progress, for commands that turn out to need them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cli.guarding import say

if TYPE_CHECKING:
    from images.layers import Origin
    from images.store import Store


class LayersOnDemand:
    """An ``images.layers.LayerSource`` that opens a client for each fetch, so that other commands pay nothing."""

    def __init__(self, store: Store, root: str | None, insecure: Sequence[str]) -> None:
        self._store = store
        self._root = root
        self._insecure = insecure

    def fetch(self, wanted: Sequence[Sequence[Origin]]) -> None:
        """As LayerSource, with the progress on standard error. In the main thread, Ctrl-C ends it cleanly."""
        from cli.registry import open_client, transfers_on_stderr
        from cli.signals import cancelling
        from registry.client import RegistryLayers

        cancelled = threading.Event()
        with ExitStack() as stack:
            client = stack.enter_context(open_client(self._root, self._insecure, cancelled))
            if threading.current_thread() is threading.main_thread():
                stack.enter_context(cancelling(cancelled, at_once=client.close))
            names = dict.fromkeys(origins[0].repository for origins in wanted)
            say(f"fetching {_count(wanted)} from {', '.join(names)}")
            display = stack.enter_context(transfers_on_stderr())
            RegistryLayers(self._store, client).fetch(wanted, display)


def _count(wanted: Sequence[object]) -> str:
    return "a layer" if len(wanted) == 1 else f"{len(wanted)} layers"
