"""Pushes the images of a build to the registries that their names begin with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.errors import BuildCancelledError, OutputError
from core.events import Monitor
from core.references import Reference
from images.indexes import StoredIndex
from images.store import Store
from images.summary import Image

if TYPE_CHECKING:
    from registry.client import Client


class Push:
    """Sends images, and shows the progress at step ``step_id``. connect: None where there are no registries."""

    def __init__(self, store: Store, connect: Callable[[], Client] | None, monitor: Monitor, step_id: int) -> None:
        self._store = store
        self._connect = connect
        self._monitor = monitor
        self._step_id = step_id

    def send(self, what: Image | StoredIndex, names: Sequence[Reference], *, by_digest: bool) -> None:
        """Send an image with its manifest, or an index with all that it has, to each name.

        by_digest: push without the names' tags.
        Raises BuildCancelledError, OutputError and what a push raises.
        """
        from registry.client import StepTransferMonitor, push
        from registry.errors import TransferCancelledError

        if self._connect is None:
            raise OutputError("this build has no registries to push to")
        monitor = StepTransferMonitor(self._monitor, self._step_id)
        with contextlib.closing(self._connect()) as client:
            try:
                for name in names:
                    push(name, self._store, client=client, image=what, by_digest=by_digest, monitor=monitor)
            except TransferCancelledError as error:
                raise BuildCancelledError("cancelled") from error
