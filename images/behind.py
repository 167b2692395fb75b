"""Writing on a thread of its own, so that who makes the data and who hashes and stores it have a core each."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Final, Protocol, Self

_WAITING: Final = 4  # chunks between the two; more would only take memory


class _SupportsWrite(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Behind:
    """A sink that passes what it is given to ``sink``, in order, on a thread. Within the context only.

    What ``sink`` raises is raised by a later ``write`` or on leaving; when the context is left without an exception,
    everything has been written.
    """

    def __init__(self, sink: _SupportsWrite) -> None:
        self._sink = sink
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="writer")

    def write(self, data: bytes, /) -> int:
        if self._error is not None:
            raise self._error
        self._chunks.put(data)
        return len(data)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
