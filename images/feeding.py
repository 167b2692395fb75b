"""Indexes a layer's tar while it is being written: from some size on, what is written goes to ``mkfs.erofs`` as well.

Most layers are indexed by whoever mounts them first, from the file. That takes seconds for a large one. Where somebody
waits for it, as a job waits for the outputs of another one, the index is there as soon as the tar is.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl
from typing import Final, NamedTuple, Protocol

from core.closing import Closing
from core.errors import StorageFullError
from images.erofs import Indexer

_BEGINS_AT: Final = 16 << 20  # bytes; what is smaller is indexed in a moment
_AHEAD: Final = 1 << 20  # bytes in the pipe
_PATIENCE_MS: Final = 20_000  # a program that reads nothing for so long is not waited for


class SupportsWrite(Protocol):
    """Where the bytes go."""

    def write(self, data: bytes, /) -> object: ...


class Begun(NamedTuple):
    """An index on its way. directory: of the snapshot that it is for."""

    directory: str
    indexer: Indexer


class Feed(Closing):
    """A sink that passes on to ``sink`` what it gets, and to an indexer.

    begin: starts the indexer, which reads the descriptor that it is given. None: there can be none.
    Threads: one at a time. Ended by: ``close``, which stops the indexer unless ``end`` has given it away.
    """

    def __init__(self, sink: SupportsWrite, begin: Callable[[int], Begun | None]) -> None:
        self._sink = sink
        self._begin = begin
        self._first: list[bytes] | None = []  # what was written before the indexer was worth it; None: that is decided
        self._first_bytes = 0
        self._begun: Begun | None = None
        self._pipe = -1

    def write(self, data: bytes, /) -> int:
        """Raises what the sink raises. An indexer that fails is done without."""
        self._sink.write(data)
        if self._first is None:
            if self._pipe >= 0:
                self._pass_on(data)
            return len(data)
        self._first.append(data)
        self._first_bytes += len(data)
        if self._first_bytes >= _BEGINS_AT:
            first, self._first = self._first, None
            self._start()
            for each in first:
                if self._pipe >= 0:
                    self._pass_on(each)
        return len(data)

    def end(self) -> Begun | None:
        """The index, once all was written; from now on it is the caller's. None: there is none."""
        self._close_pipe()
        begun, self._begun = self._begun, None
        return begun

    def close(self) -> None:
        self._close_pipe()
        if self._begun is not None:
            self._begun.indexer.stop()
            self._begun = None

    def _start(self) -> None:
        try:
            read, self._pipe = os.pipe()
        except OSError:  # as many files are open as there may be
            return
        try:
            with suppress(OSError):  # as much as a user may
                fcntl(self._pipe, F_SETPIPE_SZ, _AHEAD)
            os.set_blocking(self._pipe, False)
            with suppress(OSError, StorageFullError):  # if there is no room for the layer either, the sink tells
                self._begun = self._begin(read)
        finally:
            os.close(read)
            if self._begun is None:
                self._close_pipe()

    def _pass_on(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                try:
                    left = left[os.write(self._pipe, left) :]
                except BlockingIOError:
                    room = select.poll()
                    room.register(self._pipe, select.POLLOUT)
                    if not room.poll(_PATIENCE_MS):
                        self.close()
                        return
        except BrokenPipeError:
            self.close()

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
