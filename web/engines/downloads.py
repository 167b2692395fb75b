"""Who may save a log now: a client takes it as slowly as it likes, and must not keep others from theirs.

So many are saved at once. When one more is asked for, the slowest client makes room: its connection ends before the
log's end, which clients notice.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from web.errors import UnavailableError

if TYPE_CHECKING:
    from web.engines.client import Stream

MOST: Final = 8
_WAIT_S: Final = 20.0
_LOOK_EACH_S: Final = 0.5
_LEAST_RATE: Final = 64 << 10
"""Bytes a second of waiting for the client. Who takes fewer uses its time up, and is slow."""

_PATIENCE_S: Final = 5.0
"""The time that each has at first."""

_MOST_PATIENCE_S: Final = 60.0
"""The most that a fast client gains: what it took once is no right to stand still for hours."""


class Download:
    """A log that is being saved. All methods are for its own thread, but ``left_s`` and ``cut``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stream: Stream | None = None
        self._is_cut = False
        self._left_s = _PATIENCE_S
        self._given_at: float | None = None

    def pieces(self, stream: Stream, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces, until it is cut: ConnectionResetError. stream: where they come from."""
        self._stream = stream
        for piece in pieces:
            self._check()
            self._given_at = self._clock()
            yield piece
            left_s = min(self.left_s() + len(piece) / _LEAST_RATE, _MOST_PATIENCE_S)
            self._given_at = None  # first: others may look meanwhile, and must not count this wait twice
            self._left_s = left_s
            self._check()
        self._check()  # the end may be the cut's

    def left_s(self) -> float:
        """How long it may still keep others waiting; below 0 it may be cut for them."""
        given_at = self._given_at
        return self._left_s - (self._clock() - given_at if given_at is not None else 0.0)

    def cut(self) -> None:
        """End it: the engine is free at once, the client's thread when the client takes something, or goes."""
        self._is_cut = True
        if self._stream is not None:
            self._stream.cut()

    def _check(self) -> None:
        if self._is_cut:
            raise ConnectionResetError(errno.ECONNRESET, "the client was slow, and others had to wait")


class Downloads:
    """What is being saved. Thread-safe."""

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._changed = threading.Condition()
        self._under_way: set[Download] = set()

    @contextmanager
    def place(self) -> Iterator[Download]:
        """A place for one more, within the block. Raises UnavailableError when all are taken by others as fast."""
        download = Download(self._clock)
        with self._changed:
            deadline = self._clock() + _WAIT_S
            while len(self._under_way) >= self._most and not self._made_room():
                if self._clock() > deadline:
                    raise UnavailableError(f"{self._most} logs are saved at once", hint="try again in a moment")
                self._changed.wait(_LOOK_EACH_S)
            self._under_way.add(download)
        try:
            yield download
        finally:
            with self._changed:
                self._under_way.discard(download)
                self._changed.notify()

    def _made_room(self) -> bool:
        slowest = min(self._under_way, key=Download.left_s, default=None)
        if slowest is None or slowest.left_s() >= 0:
            return False
        self._under_way.discard(slowest)
        slowest.cut()
        return True
