"""What followers of a log cost who are far behind: reads of the stored log, and memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from pipelines.logs.reading import Logs
from web.loghub import HEARTBEAT, Hub, encode

STORED = 20_000


class StoredLog:
    """A log of which all but the last line is stored. ``end`` ends it. most: how many read it at the same time.

    at_once: so many lines come at a time.
    """

    def __init__(self, at_once: int = STORED) -> None:
        self.end = threading.Event()
        self._at_once = at_once
        self.reads = self.most = 0
        self._reading = 0
        self._lock = threading.Lock()

    def read(self, number: int, first: int = 1, limit: int = 1000) -> list[tuple[int, bytes]]:
        with self._lock:
            self.reads += 1
            self._reading += 1
            self.most = max(self.most, self._reading)
        lines = [(line, b"%d" % line) for line in range(first, min(first + min(limit, self._at_once), STORED + 1))]
        with self._lock:
            self._reading -= 1
        return lines

    def follow(
        self, number: int, after: int = 0, *, partial: Callable[[bytes], None] | None = None
    ) -> Iterator[list[tuple[int, bytes]]]:
        assert after == STORED
        yield [(STORED + 1, b"last")]
        while not self.end.wait(0.01):
            yield []


def followed(hub: Hub, after: int) -> bytes:
    """All that comes, up to the last line."""
    body = b""
    for data in hub.follow(1, after):
        body += data.replace(HEARTBEAT, b"")
        if body.endswith(b"data: last\n\n"):
            break
    return body


def test_page_of_lines_so_long_that_they_come_by_and_by_has_no_gaps() -> None:
    log = StoredLog(at_once=300)
    hub = Hub(cast(Logs, log))
    newest = hub.follow(1, STORED)
    next(newest)
    for after in (0, 250, 1299):
        expected = [*((n, b"%d" % n) for n in range(after + 1, STORED + 1)), (STORED + 1, b"last")]
        assert followed(hub, after) == encode(expected)
    log.end.set()


def test_followers_far_behind_read_each_page_of_the_stored_log_once_and_one_at_a_time() -> None:
    log = StoredLog()
    hub = Hub(cast(Logs, log))
    newest = hub.follow(1, STORED)
    assert next(newest) == encode([(STORED + 1, b"last")])

    begins = [0, *range(7, STORED, 997)]  # in the middle of pages, too
    with ThreadPoolExecutor(len(begins)) as followers:
        bodies = [followers.submit(followed, hub, after) for after in begins]
        for after, body in zip(begins, bodies, strict=True):
            expected = [*((n, b"%d" % n) for n in range(after + 1, STORED + 1)), (STORED + 1, b"last")]
            assert body.result() == encode(expected)
    log.end.set()
    assert log.most == 1
    assert log.reads == STORED // 1000
