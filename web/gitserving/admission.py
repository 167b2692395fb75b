"""Bounds on requests for repositories that are answered at once: in all, and for each sender."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Final

_PATIENCE_S: Final = 10.0
_WAITING: Final = 32  # any more do not even wait: each takes a thread of the web process
_FOLLOWING: Final = 50
_SHARE: Final = 4  # one sender may have a fourth of all


class Admission:
    """The places for requests. Thread-safe. at_once: how many may be answered at the same time."""

    def __init__(self, at_once: int, *, patience_s: float = _PATIENCE_S) -> None:
        self._changed = threading.Condition()
        self._free = at_once
        self._each = max(1, at_once // _SHARE)
        self._by_whom: Counter[str] = Counter()
        self._waiting = 0
        self._following = 0
        self._patience_s = patience_s

    def enter(self, who: str) -> Place | None:
        """A place for one request; None: there is none for so long that the sender had better come again."""
        end = time.monotonic() + self._patience_s
        with self._changed:
            if self._waiting >= _WAITING:
                return None
            self._waiting += 1
            try:
                while self._free <= 0 or self._by_whom[who] >= self._each:
                    left = end - time.monotonic()
                    if left <= 0:
                        return None
                    self._changed.wait(left)
                self._free -= 1
                self._by_whom[who] += 1
            finally:
                self._waiting -= 1
                self._by_whom += Counter()  # forgets senders without a place
        return Place(self, who)

    def leave(self, who: str) -> None:
        with self._changed:
            self._free += 1
            self._by_whom[who] -= 1
            self._by_whom += Counter()
            self._changed.notify_all()

    def follow(self, change: int) -> bool:
        """Count one more (1) or less (-1) follower of a log. False: there are too many."""
        with self._changed:
            if change > 0 and self._following >= _FOLLOWING:
                return False
            self._following += change
            return True


class Place:
    """The place of one request. For one thread."""

    def __init__(self, admission: Admission, who: str) -> None:
        self._admission = admission
        self._who = who
        self._is_taken = True
        self._follows = False

    def follow(self) -> bool:
        """Give the place to others: the push is done, and its sender only follows a log. False: too many do."""
        self._leave()
        self._follows = self._follows or self._admission.follow(1)
        return self._follows

    def leave(self) -> None:
        """Give the place back. May be called again."""
        self._leave()
        if self._follows:
            self._follows = False
            self._admission.follow(-1)

    def _leave(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._admission.leave(self._who)
