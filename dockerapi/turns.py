"""Whose turn it is: how many of the API's connections, threads and followers each user may have.

A thread is held for as long as a client takes to send its request and to take its answer, and for as long as a file
system of the client's own keeps us waiting. So a user who is slow, or opens many connections, must not stop others.
The owner of this process has no bound. For the rest: some threads are always left for the owner, and for other users.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

_Connection = TypeVar("_Connection")

MOST_OPEN: Final = 256
"""Connections of one user in the hands of HTTP."""

MOST_FOLLOWERS: Final = 256
"""Connections of one user in the hands of the pump."""


class Turns(Generic[_Connection]):
    """Which connections are served now, and which wait. For one thread.

    threads: how many there are. owner: the user who has no bound.
    """

    def __init__(self, threads: int, owner: int) -> None:
        self._owner = owner
        self._most_of_one = threads * 3 // 8
        self._most = threads * 3 // 4
        self._busy: Counter[int] = Counter()
        self._waiting: defaultdict[int, deque[_Connection]] = defaultdict(deque)

    def begin(self, user: int, connection: _Connection) -> bool:
        """Whether the connection is to be served now. Else ``ended`` gives it out later."""
        if user != self._owner:
            if not self._has_room(user):
                self._waiting[user].append(connection)
                return False
            self._busy[user] += 1
        return True

    def ended(self, user: int) -> Iterator[_Connection]:
        """A connection of this user is served; those whose turn it is now, each of which has begun by that."""
        if user == self._owner:
            return
        self._busy[user] -= 1
        if not self._busy[user]:
            del self._busy[user]
        for other in list(self._waiting):
            if self._has_room(other):
                connection = self._waiting[other].popleft()
                # Who has had a turn comes after the others that wait.
                left = self._waiting.pop(other)
                if left:
                    self._waiting[other] = left
                self._busy[other] += 1
                yield connection

    def _has_room(self, user: int) -> bool:
        return self._busy[user] < self._most_of_one and self._busy.total() < self._most


class Followers:
    """How many followers each user has. Thread-safe. owner: the user who has no bound; most: that of the others."""

    def __init__(self, owner: int, most: int = MOST_FOLLOWERS) -> None:
        self._owner = owner
        self._most = most
        self._lock = threading.Lock()
        self._counts: Counter[int] = Counter()

    def has_room(self, user: int) -> bool:
        """Whether ``enter`` would count one more."""
        with self._lock:
            return user == self._owner or self._counts[user] < self._most

    def enter(self, user: int) -> bool:
        """Count one more; False, and not counted, when the user has as many as one may have."""
        with self._lock:
            if user != self._owner and self._counts[user] >= self._most:
                return False
            self._counts[user] += 1
        return True

    def leave(self, user: int) -> None:
        """One that was counted has ended."""
        with self._lock:
            self._counts[user] -= 1
            if not self._counts[user]:
                del self._counts[user]
