"""How many threads may wait for large bodies of clients that nobody vouched for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from registry.server.listening.connection import Connection


class Room:
    """A look at the threads. Half of them wait for the slow, an eighth for one address; a quarter has no such body.

    slow: those whose body a thread waits for in vain, as far as one can tell; the one that began first is in front.
    """

    def __init__(self, threads: int, answered: Sequence[Connection], now: float) -> None:
        unknown = [conn for conn in answered if conn.heavy and not conn.vouched]
        self.slow = [conn for conn in unknown if conn.is_slow(now)]
        self._unknown = len(unknown)
        self._slow_by_address = Counter(conn.address for conn in self.slow)
        self._most = max(1, threads * 3 // 4)
        self._most_slow = max(1, threads // 2)
        self._most_of_one = max(1, threads // 8)

    def takes(self, conn: Connection) -> bool:
        """Whether a thread may wait for this one's body.

        Those with credentials need not wait for the slow: the application knows at once whether theirs are good.
        """
        if self._unknown >= self._most:
            return False
        if conn.head is not None and conn.head.names_somebody:
            return True
        return len(self.slow) < self._most_slow and self._slow_by_address[conn.address] < self._most_of_one

    def add(self, conn: Connection) -> None:
        """Count one more, as slow until one knows better."""
        self._unknown += 1
        self.slow.append(conn)
        self._slow_by_address[conn.address] += 1
