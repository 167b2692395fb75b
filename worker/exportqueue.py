"""The exports that wait, one for each place in the registry: the newest run's."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, NamedTuple

from images.store import Store
from worker.cacheexport import CacheExport

MOST_WAITING: Final = 16
_REMEMBERED: Final = 1000


class Waiting(NamedTuple):
    """An export, and the session that keeps what it reads from being pruned. until: of the monotonic clock."""

    export: CacheExport
    store: Store
    until: float


class ExportQueue:
    """Thread-safe. Whatever ``put`` and ``close`` return is the caller's to drop."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._newest: OrderedDict[str, int] = OrderedDict()  # place -> the number of the newest run that came
        self._changed = threading.Condition()
        self._closed = False
        self._in_hand = False

    def put(self, new: Waiting) -> list[Waiting]:
        """Let it wait. Returns what goes for it: an older run's for the same place, or the one that waited longest.

        That is itself when a newer run's came before it.
        """
        place, number = new.export.place, new.export.claim.number
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
        """The one that has waited longest; waits for one. None once the queue is closed.

        For one thread: it is done with what it took before.
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
        """Whether nothing waits, and what was taken is done."""
        with self._changed:
            return not self._waiting and not self._in_hand

    def close(self) -> list[Waiting]:
        """Give nothing out any more. Returns what waited."""
        with self._changed:
            self._closed = True
            left = list(self._waiting.values())
            self._waiting.clear()
            self._changed.notify_all()
        return left
