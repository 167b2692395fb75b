"""The queue of exports: one for each place in the registry, of the newest run."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, NamedTuple

from images.store import Store
from worker.cacheexport import CacheExport

MOST_WAITING: Final = 16
_REMEMBERED: Final = 1000


class Waiting(NamedTuple):
    """An export, and the session that keeps its content from being pruned. until: by the monotonic clock."""

    export: CacheExport
    store: Store
    until: float


class ExportQueue:
    """The queue. Thread-safe. The caller has to drop whatever ``put`` and ``close`` return."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._newest: OrderedDict[str, int] = OrderedDict()  # place -> the number of the newest run that came
        self._changed = threading.Condition()
        self._closed = False
        self._in_hand = False

    def put(self, new: Waiting) -> list[Waiting]:
        """Queue an export. Returns those that go for it: an older run's for the same place, or the longest waiting.

        Returns ``new`` itself when a newer run's came before it.
        """
        place, number = new.export.place, new.export.claim.run.number
        with self._changed:
            if self._closed or self._newest.get(place, 0) > number:
                return [new]
            self._newest[place] = number
            self._newest.move_to_end(place)
            if len(self._newest) > _REMEMBERED:
                self._newest.popitem(last=False)
            older = self._waiting.pop(place, None)
            gone = [] if older is None else [older]
            self._waiting[place] = new
            if len(self._waiting) > self._most:
                gone.append(self._waiting.popitem(last=False)[1])
            self._changed.notify()
        return gone

    def take(self) -> Waiting | None:
        """The export that has waited longest; waits until there is one. None once the queue is closed.

        For one thread only: the next call says that the export before is done.
        """
        with self._changed:
            self._in_hand = False
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            self._in_hand = True
            return self._waiting.popitem(last=False)[1]

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and the export that was taken is done."""
        with self._changed:
            return not self._waiting and not self._in_hand

    def close(self) -> list[Waiting]:
        """Give nothing out any more. Returns the exports that waited."""
        with self._changed:
            self._closed = True
            left = list(self._waiting.values())
            self._waiting.clear()
            self._changed.notify_all()
        return left
