"""The cache of one build, from its first question to its export."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.cacheio.buildcache import BuildCache
from builder.errors import BuildCancelledError
from builder.request.arguments import INLINE_CACHE_ARG
from builder.request.cache import INLINE_MEMBER, CacheTo
from core.closing import Closing
from core.digests import DiffID
from core.errors import ShiplapError
from core.events import BuildPlanned, Monitor, StepFinished, StepInfo, StepProgress, StepStarted, Warned
from core.gobool import parse_bool

if TYPE_CHECKING:
    from builder.bases import Connect
    from builder.cacheio.importing import CacheImports
    from builder.cacheio.places import CacheDirectories
    from builder.request.request import BuildRequest
    from images.oci import ImageConfig
    from images.store import Store


class CacheSession(Closing):
    """``cache`` answers the solver. A context manager, which closes the connections that caches needed.

    new_step: makes a step for each import, transfer and export.
    directories: what ``type=local`` names; None: directories of this host.
    """

    def __init__(
        self,
        request: BuildRequest,
        store: Store,
        monitor: Monitor,
        connect: Connect | None,
        *,
        new_step: Callable[[str], StepInfo],
        cancelled: threading.Event,
        directories: CacheDirectories | None = None,
    ) -> None:
        self._request = request
        self._store = store
        self._monitor = monitor
        self._new_step = new_step
        self._stack = contextlib.ExitStack()
        self._inline = any(target.type == "inline" for target in request.cache_to) or (
            parse_bool(request.build_args.get(INLINE_CACHE_ARG, "")) is True
        )
        self._targets = [target for target in request.cache_to if target.type != "inline"]
        imports: CacheImports | None = None
        if request.cache_from or self._targets:
            from builder.cacheio.opening import CachePlaces

            self._places = self._stack.enter_context(CachePlaces(connect, request.platform, directories))
        if request.cache_from:
            from builder.cacheio.importing import CacheImports

            imports = CacheImports(
                request.cache_from,
                self._places.source,
                store=store,
                monitor=monitor,
                new_step=new_step,
                stopped=cancelled.is_set,
            )
        self.cache = BuildCache(store, request.domain, imports)

    def marked(self, config: ImageConfig) -> ImageConfig:
        """The image's config with the inline cache, if wanted; else without any, also without the base image's."""
        if not self._inline and INLINE_MEMBER not in config.extra:
            return config
        from builder.cacheio.document import with_inline_records

        return with_inline_records(config, self.cache.used() if self._inline else None)

    def export(self, image_layers: Sequence[DiffID]) -> None:
        """Write the cache to each place that was asked for, as one step each.

        image_layers: the layers that ``mode=min`` writes.
        Raises CacheExportError and others unless ``ignore-error`` was asked for, and BuildCancelledError.
        """
        for target in self._targets:
            self._export(target, image_layers)

    def _export(self, target: CacheTo, image_layers: Sequence[DiffID]) -> None:
        from builder.cacheio.exporting import export_cache
        from registry.errors import TransferCancelledError

        step = self._new_step(f"[internal] export the cache to {target}")
        emit, start = self._monitor.emit, time.monotonic()
        emit(BuildPlanned((step,)))
        emit(StepStarted(step.id, time.time()))
        try:
            sent = export_cache(
                target,
                self._places.target,
                store=self._store,
                cache=self.cache,
                image_layers=frozenset(image_layers),
                moved=lambda what, done, total: emit(StepProgress(step.id, what, done, total)),
            )
        except TransferCancelledError as error:
            emit(StepFinished(step.id, "cancelled", time.monotonic() - start, time.time()))
            raise BuildCancelledError("cancelled") from error
        except ShiplapError as error:
            emit(StepFinished(step.id, "failed", time.monotonic() - start, time.time(), str(error)))
            if not target.ignore_error:
                raise
            emit(Warned(f"the cache was not exported to {target}: {error}"))
        else:
            emit(StepFinished(step.id, "done", time.monotonic() - start, time.time(), None if sent else "up to date"))

    def close(self) -> None:
        self._stack.close()
