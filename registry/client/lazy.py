"""Layers that stayed at their registries when their images were pulled, fetched once somebody needs them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from core.errors import ShiplapError, StorageFullError
from core.references import Reference
from images.errors import ImagesError
from images.layers import Origin
from images.store import Store
from registry.client.client import Client
from registry.client.contents import import_layer
from registry.client.finding import Finder
from registry.client.monitor import LayerReporter, NullTransferMonitor, TransferMonitor
from registry.client.workers import in_parallel
from registry.errors import LayerUnavailableError, RegistryError, TransferCancelledError

_PARALLEL: Final = 4


class RegistryLayers:
    """Brings layers from the registries that they are known to be at: an ``images.layers.LayerSource``."""

    def __init__(self, store: Store, client: Client) -> None:
        self._store = store
        self._client = client

    def fetch(self, wanted: Sequence[Sequence[Origin]], monitor: TransferMonitor | None = None) -> None:
        """Import the layers, several at a time. Each one's places are tried in order.

        When one cannot be had, the others still arrive: nothing is cancelled here, for ``cancelled`` of the client may
        be a whole build's.
        Raises LayerUnavailableError, TransferCancelledError, and StorageFullError.
        """
        shown = monitor or NullTransferMonitor()
        in_parallel(
            lambda origins: self._layer(origins, shown),
            wanted,
            workers=_PARALLEL,
            stop=threading.Event(),
            name="layers",
        )

    def _layer(self, origins: Sequence[Origin], monitor: TransferMonitor) -> None:
        first: ShiplapError | None = None
        for origin in origins:
            try:
                reference = Reference.parse(origin.repository)
                finder = Finder(reference, self._client, monitor)
                reporter = LayerReporter(monitor, origin.blob.digest.short, origin.blob.size)
                keep = self._client.config.keeps_pulled
                import_layer(
                    self._store, origin.diff_id, origin.blob, reference.domain, finder.any_blob, reporter, keep=keep
                )
                return
            except (TransferCancelledError, StorageFullError):
                raise
            except (RegistryError, ImagesError) as error:
                first = first or error
        if first is not None:  # of the latest place; the others may be known through somebody else
            raise LayerUnavailableError(
                f"layer {origins[0].diff_id} is needed and not here: blob {origins[0].blob.digest} of"
                f" {origins[0].repository} cannot be fetched: {first.message}",
                hint=first.hint or "the image was pulled without its layers; is its registry in reach?",
            ) from first
