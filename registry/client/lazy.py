"""Layers that stayed at their registries when their images were pulled, fetched once somebody needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Protocol, Self

from core.errors import StorageFullError
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


class Show(Protocol):
    """Shows a download of layers while its context lasts. names: of the repositories that have them."""

    def __call__(self, names: Sequence[str], /) -> AbstractContextManager[TransferMonitor]: ...


class RegistryLayers:
    """A ``store.layers.source``: sets itself there, until ``close`` (also a context manager).

    connect: opens a client when the first layer is needed; it is closed here. show: None shows nothing.
    """

    def __init__(self, store: Store, connect: Callable[[], Client], show: Show | None = None) -> None:
        self._store = store
        self._connect = connect
        self._show = show
        self._lock = threading.Lock()
        self._client: Client | None = None
        store.layers.source = self

    def fetch(self, wanted: Sequence[Sequence[Origin]]) -> None:
        """As LayerSource. Raises LayerUnavailableError, TransferCancelledError, and StorageFullError."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            client = self._client
        if self._show is None:
            self._fetch(client, wanted, NullTransferMonitor())
            return
        with self._show(list(dict.fromkeys(origins[0].repository for origins in wanted))) as monitor:
            self._fetch(client, wanted, monitor)

    def close(self) -> None:
        if self._store.layers.source is self:
            self._store.layers.source = None
        if self._client is not None:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fetch(self, client: Client, wanted: Sequence[Sequence[Origin]], monitor: TransferMonitor) -> None:
        in_parallel(
            lambda origins: self._layer(client, origins, monitor),
            wanted,
            workers=_PARALLEL,
            stop=client.cancelled,
            name="layers",
        )

    def _layer(self, client: Client, origins: Sequence[Origin], monitor: TransferMonitor) -> None:
        for origin in origins:
            finder = Finder(Reference.parse(origin.repository), client, monitor)
            reporter = LayerReporter(monitor, origin.blob.digest.short, origin.blob.size)
            try:
                import_layer(self._store, origin.diff_id, origin.blob, finder.any_blob, reporter)
            except (TransferCancelledError, StorageFullError):
                raise
            except (RegistryError, ImagesError) as error:
                if origin is origins[-1]:
                    raise LayerUnavailableError(
                        f"layer {origin.diff_id} is needed and not here: blob {origin.blob.digest} of"
                        f" {origin.repository} cannot be fetched: {error.message}",
                        hint=error.hint or "the image was pulled without its layers; is its registry in reach?",
                    ) from error
            else:
                return
