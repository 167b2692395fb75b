"""The hub of logs: many followers of a log, one reader of it.

Each job that is followed has one *tail*: a thread that reads the log as it grows, encodes it for the wire once, and
keeps the last megabytes. Followers take these same bytes, each at its own pace. A follower that is further behind reads
*pages*. These are encoded once, too, and kept while they are used. So memory depends on the number of jobs that are
followed, and not on the number of followers or on how slow they are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from core.errors import ShiplapError

if TYPE_CHECKING:
    from pipelines.logs.reading import Logs

_log = logging.getLogger(__name__)

_WINDOW_BYTES: Final = 4 << 20
_WINDOW_PIECES: Final = 1000
_JOINED_BYTES: Final = 64 << 10
_PIECE_LINES: Final = 500
_PAGE_LINES: Final = 1000
_PAGES: Final = 32
_PAGES_BYTES: Final = 32 << 20
_HEARTBEAT_S: Final = 10.0
_WAIT_S: Final = 1.0
HEARTBEAT: Final = b": still here\n\n"


class Piece(NamedTuple):
    """Consecutive lines as they go over the wire."""

    first: int
    last: int
    data: bytes


class Begun(NamedTuple):
    """A line that has not ended, as it goes over the wire; without an id. version: grows with each change."""

    version: int
    data: bytes


def encode(lines: list[tuple[int, bytes]]) -> bytes:
    """Lines as server-sent events; an event's id is the line's number."""
    return b"".join(b"id: %d\ndata: %s\n\n" % line for line in lines)


class _Tail:
    """The end of one job's log. ``changed`` guards the rest, and is notified whenever there is more.

    closed: takes no more followers; the thread ends, or has ended.
    """

    def __init__(self, logs: Logs, number: int, after: int) -> None:
        self.changed = threading.Condition()
        self.last = after
        self.followers = 1
        self.closed = False
        self._pieces: deque[Piece] = deque()
        self._size_bytes = 0
        self._begun = Begun(0, b"")
        self._logs = logs
        self._number = number

    def run(self) -> None:
        """Read the log until it ends, or nobody follows it any more."""
        try:
            for batch in self._logs.follow(self._number, self.last, partial=self._show):
                for start in range(0, len(batch), _PIECE_LINES):
                    lines = batch[start : start + _PIECE_LINES]
                    self._append(Piece(lines[0][0], lines[-1][0], encode(lines)))
                with self.changed:
                    if not self.followers:
                        return
        except ShiplapError as error:  # followers are sent away, come back, and learn it from the answer's status
            _log.warning("log of job %d: %s", self._number, error)
        finally:
            with self.changed:
                self.closed = True
                self.changed.notify_all()

    def begun(self, line: int, seen: int) -> Begun | None:
        """The line that has begun after ``line``, unless its version is the one that was ``seen``."""
        with self.changed:
            return self._begun if self._begun.version != seen and self._begun.data and line == self.last else None

    def join(self) -> bool:
        """Count another follower, unless this tail is closed."""
        with self.changed:
            if self.closed:
                return False
            self.followers += 1
            return True

    def leave(self) -> None:
        """Count one follower less; when the last one leaves, the tail closes."""
        with self.changed:
            self.followers -= 1
            self.closed = self.closed or not self.followers

    def after(self, line: int) -> tuple[Piece | None, int]:
        """The lines after ``line``; and up to which line the stored log has to be read first (0: not at all).

        Waits a moment for new lines; (None, 0) when none came.
        """
        with self.changed:
            if line >= self.last and not self.closed:
                self.changed.wait(_WAIT_S)
            if line >= self.last:
                return None, 0
            found: list[Piece] = []
            for piece in reversed(self._pieces):
                if piece.last <= line:
                    break
                found.append(piece)
        first = found[-1]
        if first.first <= line:
            return _rest(first, line), 0
        until = first.first - 1 if len(found) == len(self._pieces) and first.first > line + 1 else 0
        return _joined(found), until

    def _show(self, data: bytes) -> None:
        with self.changed:
            self._begun = Begun(self._begun.version + 1, b"event: partial\ndata: %s\n\n" % data)
            self.changed.notify_all()

    def _append(self, piece: Piece) -> None:
        with self.changed:
            self._begun = Begun(self._begun.version + 1, b"")
            self._pieces.append(piece)
            self._size_bytes += len(piece.data)
            self.last = piece.last
            while (self._size_bytes > _WINDOW_BYTES or len(self._pieces) > _WINDOW_PIECES) and len(self._pieces) > 1:
                self._size_bytes -= len(self._pieces.popleft().data)
            self.changed.notify_all()


def _rest(piece: Piece, line: int) -> Piece:
    """The part of a piece after ``line``, which is in it. Data has no newlines, so an id is found by its own."""
    for number in range(line + 1, piece.last + 1):
        at = piece.data.find(b"\nid: %d\n" % number)
        if at >= 0:
            return Piece(number, piece.last, piece.data[at + 1 :])
    raise AssertionError("the piece's last line is in it")


def _joined(newest_first: list[Piece]) -> Piece:
    """The oldest piece, together with the next ones as far as they are small."""
    chosen = [newest_first.pop()]
    size = len(chosen[0].data)
    while newest_first and size + len(newest_first[-1].data) <= _JOINED_BYTES:
        chosen.append(newest_first.pop())
        size += len(chosen[-1].data)
    if len(chosen) == 1:
        return chosen[0]
    return Piece(chosen[0].first, chosen[-1].last, b"".join(piece.data for piece in chosen))


class Hub:
    """All tails of this process. Thread-safe. clock: monotonic, for heartbeats."""

    def __init__(self, logs: Logs, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._logs = logs
        self._clock = clock
        self._lock = threading.Lock()
        self._tails: dict[int, _Tail] = {}
        self._reading = threading.Lock()  # one reader of the stored log at a time; guards the pages
        self._pages: OrderedDict[tuple[int, int], Piece] = OrderedDict()
        self.stopping = False  # set it to end every stream soon

    def follow(self, number: int, after: int) -> Iterator[bytes]:
        """The lines after line ``after`` of a job's log, as server-sent events, to its end; heartbeats where none come.

        Ends early when the hub stops or the log cannot be read: the client comes back with the last id that it has
        seen.
        """
        tail = self._join(number, after)
        said_at = self._clock()
        seen = 0
        try:
            while not self.stopping:
                if (begun := tail.begun(after, seen)) is not None:
                    seen, said_at = begun.version, self._clock()
                    yield begun.data
                piece, until = tail.after(after)
                if until and (piece := self._page(number, after, until)) is None:
                    return  # the page cannot be read just now
                if piece is not None:
                    after, said_at = piece.last, self._clock()
                    yield piece.data
                elif tail.closed:
                    return
                elif self._clock() - said_at >= _HEARTBEAT_S:
                    said_at = self._clock()
                    yield HEARTBEAT
        finally:
            tail.leave()

    def _join(self, number: int, after: int) -> _Tail:
        with self._lock:
            tail = self._tails.get(number)
            if tail is None or not tail.join():
                tail = self._tails[number] = _Tail(self._logs, number, after)
                threading.Thread(target=self._run, args=(number, tail), name=f"log-{number}", daemon=True).start()
            return tail

    def _run(self, number: int, tail: _Tail) -> None:
        tail.run()
        with self._lock:
            if self._tails.get(number) is tail:
                del self._tails[number]

    def _page(self, number: int, after: int, until: int) -> Piece | None:
        """Lines after ``after`` from the stored log: up to ``until``, or to the end of the page where they begin."""
        key = number, after // _PAGE_LINES
        start = key[1] * _PAGE_LINES
        with self._reading:  # one at a time: others want the same page, or would each hold a decoded one
            piece = self._pages.get(key)
            if piece is None:
                first, wanted = (start + 1, _PAGE_LINES) if until >= start + _PAGE_LINES else (after + 1, until - after)
                lines = self._logs.read(number, first, wanted)
                if lines and lines[-1][0] <= after:  # a page of long lines does not come at once
                    lines = self._logs.read(number, after + 1, until - after)
                if not lines:
                    return None
                piece = Piece(lines[0][0], lines[-1][0], encode(lines))
                if len(lines) == _PAGE_LINES and lines[0][0] == start + 1:
                    self._keep(key, piece)
            else:
                self._pages.move_to_end(key)
        return _rest(piece, after) if piece.first <= after else piece

    def _keep(self, key: tuple[int, int], page: Piece) -> None:
        self._pages[key] = page
        while len(self._pages) > _PAGES or sum(len(kept.data) for kept in self._pages.values()) > _PAGES_BYTES:
            self._pages.popitem(last=False)
