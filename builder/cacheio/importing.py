"""Caches from elsewhere: asked when the store has no answer, records first, layers when something needs their files."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from builder.errors import BuildCancelledError, CacheFormatError, LayerLostError
from builder.request.cache import CacheFrom
from core.digests import DiffID
from core.errors import ShiplapError
from core.events import BuildPlanned, Monitor, StepFinished, StepInfo, StepOutcome, StepProgress, StepStarted, Warned
from images.records import CacheRecord
from images.store import Store

if TYPE_CHECKING:
    from builder.cacheio.places import CacheContents, CacheSource
    from images.oci import Descriptor

_PARALLEL: Final = 4


class OpenSource(Protocol):
    """Opens what ``--cache-from`` names. Raises what the connection raises."""

    def __call__(self, origin: CacheFrom, /) -> CacheSource: ...


class CacheImports:
    """All ``--cache-from`` of a build. Thread-safe. Nothing is read before the first question.

    A cache that is broken or cannot be read gives a warning, and the build goes on without it.

    new_step: makes the one step that shows the import and, later, each transfer.
    stopped: whether transfers ought to end.
    """

    def __init__(
        self,
        origins: Sequence[CacheFrom],
        open_source: OpenSource,
        *,
        store: Store,
        monitor: Monitor,
        new_step: Callable[[str], StepInfo],
        stopped: Callable[[], bool],
    ) -> None:
        self._origins = origins
        self._open_source = open_source
        self._store = store
        self._monitor = monitor
        self._shown = _Shown(monitor, lambda: new_step(_step_name(origins)))
        self._stopped = stopped
        self._lock = threading.Lock()
        self._loaded: list[tuple[CacheSource, CacheContents]] | None = None
        self._records: dict[str, CacheRecord] = {}
        self._ops: set[str] = set()
        self._lost: set[DiffID] = set()
        self._all_have_layers = False

    def get(self, key: str) -> CacheRecord | None:
        """What some cache has for this key. Its layer need not be in the store."""
        self._load()
        record = self._records.get(key)
        return record if record is not None and self._usable(record) else None

    def has_op(self, op: str) -> bool:
        """Whether a record has this operation digest."""
        self._load()
        return op in self._ops

    def siblings(self, record: CacheRecord) -> list[CacheRecord]:
        """The records of the same execution under other keys. A cache that was not asked yet has none."""
        return [
            other
            for other in self._records.values()
            if other[1:4] == record[1:4] and other.key != record.key  # op, layer and time
        ]

    def find_layer(self, diff_id: DiffID) -> tuple[CacheSource, Descriptor] | None:
        """Where the layer's blob is."""
        if diff_id in self._lost:
            return None
        for source, contents in self._load():
            if (layer := contents.layers.get(diff_id)) is not None:
                return source, layer
        return None

    def sources(self) -> list[CacheSource]:
        """The caches that could be read; none before the first question."""
        return [source for source, _ in self._loaded or ()]

    def fetch(self, diff_ids: Iterable[DiffID]) -> None:
        """Bring layers into the store. Raises LayerLostError, BuildCancelledError and StorageFullError."""
        wanted = list(dict.fromkeys(diff_ids))
        found = [(diff_id, self.find_layer(diff_id)) for diff_id in wanted]
        if any(place is None for _, place in found):
            # A mode=min cache names layers that it does not have. That is enough until something needs such a layer.
            self._all_have_layers = True
            raise LayerLostError("a layer of the cache is needed, and is not part of it")
        with self._shown as shown:
            places = [(diff_id, *place) for diff_id, place in found if place is not None]
            if len(places) == 1:
                self._fetch_one(shown, *places[0])
                return
            from concurrent.futures import ThreadPoolExecutor
            from contextvars import copy_context

            with ThreadPoolExecutor(min(_PARALLEL, len(places)), thread_name_prefix="cache") as pool:
                fetches = [functools.partial(self._fetch_one, shown, *place) for place in places]
                for done in [pool.submit(copy_context().run, fetch) for fetch in fetches]:
                    done.result()

    def _fetch_one(self, shown: _Shown, diff_id: DiffID, source: CacheSource, layer: Descriptor) -> None:
        from registry.errors import TransferCancelledError

        if self._stopped():
            raise BuildCancelledError("cancelled")
        try:
            stream = source.open_layer(layer, lambda moved: shown.progress(layer, moved))
            try:
                self._store.layers.import_compressed(stream, diff_id=diff_id, expected=layer, sync=False)
            finally:
                stream.close()
        except TransferCancelledError as error:
            raise BuildCancelledError("cancelled") from error
        except (ShiplapError, OSError) as error:
            if not _is_the_caches(error):
                raise
            self._lost.add(diff_id)
            self._monitor.emit(Warned(f"the cache {source} is broken: {error}"))
            raise LayerLostError(f"layer {diff_id} of the cache {source} cannot be had") from error

    def _usable(self, record: CacheRecord) -> bool:
        if record.diff_id is None or record.diff_id in self._lost:
            return False
        return not self._all_have_layers or self.find_layer(record.diff_id) is not None

    def _load(self) -> list[tuple[CacheSource, CacheContents]]:
        with self._lock:
            if self._loaded is None:
                with self._shown as shown:
                    found = [self._read(origin, shown) for origin in self._origins]
                self._loaded = [loaded for loaded in found if loaded is not None]
                for _, contents in reversed(self._loaded):  # the first that is named wins
                    self._records.update((record.key, record) for record in contents.records)
                self._ops = {record.op for record in self._records.values()}
            return self._loaded

    def _read(self, origin: CacheFrom, shown: _Shown) -> tuple[CacheSource, CacheContents] | None:
        from registry.errors import NotFoundError, TransferCancelledError

        try:
            source = self._open_source(origin)
            return source, source.read()
        except TransferCancelledError as error:
            raise BuildCancelledError("cancelled") from error
        except (ShiplapError, OSError) as error:
            if not _is_the_caches(error):
                raise
            if origin.optional and isinstance(error, NotFoundError):
                shown.note("there is none yet")
                return None
            shown.note(str(error))
            self._monitor.emit(Warned(f"the cache {origin} is not used: {error}"))
            return None


class _Shown:
    """A step on the monitor that may go on after it has ended. Its duration is the sum of its parts.

    make: makes the step when the first part begins.
    """

    def __init__(self, monitor: Monitor, make: Callable[[], StepInfo]) -> None:
        self._monitor = monitor
        self._make = make
        self._step: StepInfo | None = None
        self._notes: list[str] = []
        self._took_s = 0.0

    def note(self, reason: str) -> None:
        """Show this reason when the step ends."""
        if reason not in self._notes:
            self._notes.append(reason)

    def progress(self, layer: Descriptor, moved: int) -> None:
        assert self._step is not None
        self._monitor.emit(StepProgress(self._step.id, f"layer {layer.digest.short}", moved, layer.size))

    def __enter__(self) -> _Shown:
        if self._step is None:
            self._step = self._make()
            self._monitor.emit(BuildPlanned((self._step,)))
        self._start = time.monotonic() - self._took_s
        self._monitor.emit(StepStarted(self._step.id, time.time() - self._took_s))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        assert self._step is not None
        outcome: StepOutcome = (
            "done" if error is None else "cancelled" if isinstance(error, BuildCancelledError) else "failed"
        )
        reason = "; ".join(self._notes) or (str(error) if outcome == "failed" else None)
        self._took_s = time.monotonic() - self._start
        self._monitor.emit(StepFinished(self._step.id, outcome, self._took_s, time.time(), reason))


def _step_name(origins: Sequence[CacheFrom]) -> str:
    more = f" and {len(origins) - 1} more" if len(origins) > 1 else ""
    return f"[internal] import the cache {origins[0]}{more}"


def _is_the_caches(error: Exception) -> bool:
    """Whether the build can go on without the cache. It cannot when this machine's store is in trouble."""
    from images.errors import CompressedDataError, DigestMismatchError, InvalidDocumentError, InvalidLayerError
    from registry.errors import RegistryError

    content = (CompressedDataError, DigestMismatchError, InvalidDocumentError, InvalidLayerError, CacheFormatError)
    if isinstance(error, (*content, RegistryError)):
        return True
    return isinstance(error, OSError) and not isinstance(error, ShiplapError)
