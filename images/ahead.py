"""Read-ahead: one thread receives and keeps what comes, another makes something of it, each on its own core."""

from __future__ import annotations

import contextlib
import threading
from contextvars import copy_context
from types import TracebackType
from typing import Final, Protocol, Self

_PIECE_BYTES: Final = 256 << 10
_DRAINED_BYTES: Final = 1 << 20
_WAITING_BYTES: Final = 4 << 20  # and as many may be in use: when one side is slow for a moment, the other goes on


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _SupportsWrite(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Ahead:
    """A stream that is read from ``stream`` on a thread, which also writes all of it to ``copy``.

    A context manager. The thread begins with it, and reads to the stream's end or until the context is left. While it
    runs, nobody else uses ``stream`` or ``copy``. When ``read`` has returned the end, ``copy`` has everything. What
    either raises is raised by ``read``, after what came before. Leaving the context early waits for one more read of
    ``stream``, which its own time-outs bound.

    Pieces are handed over many at a time: waking a thread takes as long as hashing a small piece.
    """

    def __init__(self, stream: _Readable, copy: _SupportsWrite | None) -> None:
        self._stream = stream
        self._copy = copy
        self._changed = threading.Condition()
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        self._taken: list[bytes] = []  # by the reader; the last one comes first
        self._ended = False  # the stream
        self._left = False  # the context
        self._error: BaseException | None = None
        # What is received may ask whether the work has to end.
        self._thread = threading.Thread(target=copy_context().run, args=(self._work,), name="receiver")

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, as they come; b"" at the end."""
        if not self._taken:
            self._taken = self._next()
            if not self._taken:
                return b""
        data = self._taken.pop()
        if len(data) > size:
            self._taken.append(data[size:])
            data = data[:size]
        return data

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._left = True
            self._changed.notify()
        self._thread.join()

    def _next(self) -> list[bytes]:
        """All that waits, the first piece last; nothing at the end."""
        with self._changed:
            while not self._pieces and not self._ended:
                self._changed.wait()
            pieces, self._pieces = self._pieces, []
            self._waiting_bytes = 0
            if pieces:
                self._changed.notify()
            elif self._error is not None:
                raise self._error
        pieces.reverse()
        return pieces

    def _work(self) -> None:
        try:
            while not self._left and (data := self._stream.read(_PIECE_BYTES)):
                if self._copy is not None:
                    self._copy.write(data)
                self._hand_over(data)
        except BaseException as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _hand_over(self, data: bytes) -> None:
        with self._changed:
            while self._waiting_bytes >= _WAITING_BYTES and not self._left:
                self._changed.wait()
            if not self._pieces:
                self._changed.notify()
            self._pieces.append(data)
            self._waiting_bytes += len(data)


class Tee:
    """Passes a stream on and copies what was read to a sink, which may be named after the first reads."""

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream
        self._early: list[bytes] = []
        self._sink: _SupportsWrite | None = None
        self._direct = False

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        if self._sink is not None:
            self._sink.write(data)
        elif not self._direct:
            self._early.append(data)
        return data

    def copy_to(self, sink: _SupportsWrite | None) -> None:
        """From now on, and also what was read before, into ``sink``; None: no copy is wanted."""
        if sink is not None:
            for data in self._early:
                sink.write(data)
        self._early.clear()
        self._sink, self._direct = sink, sink is None

    def receive_apart(self, sink: _SupportsWrite | None, threads: contextlib.ExitStack) -> None:
        """As ``copy_to``, and what follows is read and copied on a thread, which ends with ``threads``."""
        self.copy_to(sink)
        self._stream = threads.enter_context(Ahead(self._stream, sink))
        self._sink, self._direct = None, True

    def drain(self) -> None:
        """Read to the end: what follows the compressed data belongs to the blob."""
        while self.read(_DRAINED_BYTES):
            pass
