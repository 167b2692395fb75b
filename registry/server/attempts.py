"""A bound on wrong passwords: whoever guesses has to wait, and nobody else."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from registry.errors import ErrorCode
from registry.server.errors import SpecError

_ATTEMPTS: Final = 10
_WINDOW_S: Final = 60.0
_REMEMBERED: Final = 10_000  # pairs; the oldest are forgotten first, so that guessers cannot fill the memory


class Attempts:
    """Wrong passwords of the last minute, by name and address. Thread-safe; kept in memory.

    They count by name and address: so a name that somebody guesses at stays open to its owner elsewhere.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def check(self, user: str, address: str) -> None:
        """Raise SpecError 429, with Retry-After, after ten wrong passwords within a minute."""
        now = self._clock()
        with self._lock:
            times = self._failed.get((user, address))
            while times and times[0] <= now - _WINDOW_S:
                times.popleft()
            if not times or len(times) < _ATTEMPTS:
                return
            wait_s = int(times[0] + _WINDOW_S - now) + 1
        raise SpecError(
            429,
            ErrorCode.TOOMANYREQUESTS,
            f"too many wrong passwords: try again in {wait_s} s",
            headers={"Retry-After": str(wait_s)},
        )

    def failed(self, user: str, address: str) -> None:
        """Count a wrong password."""
        with self._lock:
            times = self._failed.setdefault((user, address), deque(maxlen=_ATTEMPTS))
            times.append(self._clock())
            self._failed.move_to_end((user, address))
            while len(self._failed) > _REMEMBERED:
                self._failed.popitem(last=False)
