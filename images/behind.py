"""Write-behind: one thread makes the data, another hashes and stores it, each on its own core."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Protocol, Self

_WAITING_BYTES: Final = 4 << 20  # and as many are being written: when the disk is slow for a moment, nobody waits
_ALONE_BYTES: Final = 1 << 20  # what is written in a moment is not worth a thread


class _SupportsWrite(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Behind:
    """A sink that passes what it is given to ``sink``, in order, on a thread. Works within the context only.

    The thread begins with the second megabyte: what comes before that is written at once.
    What ``sink`` raises is raised by a later ``write`` or on leaving; when the context is left without an exception,
    everything has been written. Chunks are passed on many at a time: waking a thread takes as long as hashing a small
    chunk.
    """

    def __init__(self, sink: _SupportsWrite) -> None:
        self._sink = sink
        self._changed = threading.Condition()
        self._chunks: list[bytes] = []
        self._waiting_bytes = 0
        self._ended = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._alone = 0  # bytes that were written without it

    def write(self, data: bytes, /) -> int:
        if self._thread is None:
            if self._alone < _ALONE_BYTES:
                self._alone += len(data)
                self._sink.write(data)
                return len(data)
            self._thread = threading.Thread(target=self._work, name="writer")
            self._thread.start()
        with self._changed:
            while self._waiting_bytes >= _WAITING_BYTES and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            if not self._chunks:
                self._changed.notify()
            self._chunks.append(data)
            self._waiting_bytes += len(data)
        return len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        with self._changed:
            self._ended = True
            if kind is not None:
                self._chunks.clear()
            self._changed.notify()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while chunks := self._next():
                for chunk in chunks:
                    self._sink.write(chunk)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify()

    def _next(self) -> list[bytes]:
        """All that waits; nothing at the end."""
        with self._changed:
            while not self._chunks and not self._ended:
                self._changed.wait()
            chunks, self._chunks = self._chunks, []
            self._waiting_bytes = 0
            self._changed.notify()
        return chunks
