"""A file that is still being written, for who passes it on at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Protocol, Self

from core.cancellation import check

_PIECE_BYTES: Final = 256 << 10
_ASK_S: Final = 0.2  # between two questions whether the work has to end


class UnfinishedError(Exception):
    """Whoever wrote the file gave up: there is no more of it."""


class _Written(Protocol):
    """A sink whose bytes get into a file. stored_bytes: how many are there by now."""

    @property
    def stored_bytes(self) -> int: ...
    def write(self, data: bytes, /) -> object: ...


class Growing:
    """Passes on to ``sink``, and lets other threads read what has come into its file.

    One thread writes; any number read, each from the beginning. Nobody who writes waits for a reader, and nothing is
    kept in memory: readers read the file. A context manager, of the writer: leaving it ends the file, with an exception
    as unfinished. Who has called ``pieces`` may read on after that, also when the file has been moved.

    path: of the file that the sink writes.
    """

    def __init__(self, sink: _Written, path: str) -> None:
        self._sink = sink
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._changed = threading.Condition()
        self._size = 0
        self._ended = False
        self._failed = False

    def write(self, data: bytes, /) -> int:
        self._sink.write(data)
        self._grow(self._sink.stored_bytes)
        return len(data)

    def pieces(self) -> Iterator[bytes]:
        """All of the file from its beginning to its end, in pieces of at most a quarter of a megabyte.

        Waits for what is still to come; asks meanwhile whether the work has to end (``core.cancellation``).
        Raises UnfinishedError.
        """
        fd = os.dup(self._fd)
        try:
            at = 0
            while at < (size := self._beyond(at)):
                data = os.pread(fd, min(_PIECE_BYTES, size - at), at)
                if not data:
                    raise UnfinishedError
                yield data
                at += len(data)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let nobody read from the beginning any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def finished(self, size: int) -> None:
        """So many bytes are in the file, and no more will come."""
        with self._changed:
            self._size, self._ended = size, True
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._failed = not self._ended
            self._ended = True
            self._changed.notify_all()

    def _grow(self, size: int) -> None:
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def _beyond(self, at: int) -> int:
        """How large the file is, once that is more than ``at`` or there is no more."""
        with self._changed:
            while self._size <= at and not self._ended:
                check()
                self._changed.wait(_ASK_S)
            if self._failed:
                raise UnfinishedError
            return self._size
