"""Writing on a thread of its own, so that who makes the data and who hashes and stores it have a core each."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Final, Protocol, Self

_WAITING: Final = 4  # chunks between the two; more would only take memory
_ALONE_BYTES: Final = 1 << 20  # what is written in a moment is not worth a thread


class _SupportsWrite(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Behind:
    """A sink that passes what it is given to ``sink``, in order, on a thread. Within the context only.

    The thread begins with the second megabyte: what comes before that is written at once.
    What ``sink`` raises is raised by a later ``write`` or on leaving; when the context is left without an exception,
    everything has been written.
    """

    def __init__(self, sink: _SupportsWrite) -> None:
        self._sink = sink
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_WAITING)
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
        if self._error is not None:
            raise self._error
        self._chunks.put(data)
        return len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        self._chunks.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (data := self._chunks.get()) is not None:
            if self._error is None:
                try:
                    self._sink.write(data)
                except BaseException as error:
                    self._error = error
