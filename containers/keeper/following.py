"""Who follows a container's log from a place on. They hold nobody up: they read the log's files at their own pace."""

from __future__ import annotations

import json
import os
import stat

from containers.keeper import logfile
from containers.keeper.streams import Sink, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from containers.keeper.loop import Loop
    from containers.keeper.relay import Framing

_FOLLOWED_AT_ONCE = 128 << 10


class Follower:
    """Somebody who reads a log from a place on, until the keeper ends it.

    asked: ``file`` and ``offset``, the place; ``stdout``, ``stderr``, ``timestamps``, ``details``; ``framing``.
    ended: called once.
    """

    def __init__(
        self,
        loop: Loop,
        folder: str,
        log: logfile.Log | logfile.NoLog,
        framing: Framing,
        fd: int,
        asked: dict[str, Any],
        ended: Callable[[Follower], None],
    ) -> None:
        self._folder = folder
        self._log = log
        self._framing = framing
        self._asked = asked
        self._ended = ended
        self._number = int(asked.get("file") or log.number)
        self._offset = int(asked.get("offset") or 0)
        self._is_over = False
        self._is_pumping = False
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)  # which alone says that the other side went, and may write on
        self._watched = Source(loop, os.dup(fd), _ignore, self._gone, is_shared=True) if is_socket else None
        self._sink = Sink(loop, fd, self._gone, self.pump, is_shared=True)
        loop.later(0, self.pump)

    def pump(self) -> None:
        """Send what was written since, as far as it is taken."""
        if self._is_pumping:
            return  # what was sent at once leads here again
        self._is_pumping = True
        try:
            self._pump()
        finally:
            self._is_pumping = False

    def _pump(self) -> None:
        while self._sink.fd >= 0 and self._sink.waiting < _FOLLOWED_AT_ONCE:
            text = self._read()
            if not text:
                if self._number < self._log.number:
                    self._next_file()
                    continue
                if self._is_over:
                    self._sink.write(self._framing.end())
                    self._sink.finish()
                    self._gone()
                return
            self._offset += len(text)
            self._sink.write(b"".join(map(self._shown, text.splitlines())))

    def end(self) -> None:
        """Nothing more will be written."""
        self._is_over = True
        self.pump()

    def close(self) -> None:
        """Let it go now."""
        if self._watched is not None:
            self._watched.close()
        self._sink.close()

    def _read(self) -> bytes:
        """Whole lines from the place on."""
        try:
            fd = os.open(logfile.path(self._folder, self._number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            data = os.pread(fd, _FOLLOWED_AT_ONCE, self._offset)
        finally:
            os.close(fd)
        return data[: data.rfind(b"\n") + 1]

    def _next_file(self) -> None:
        known = [number for number in logfile.numbers(self._folder) if number > self._number]
        self._number = known[0] if known else self._log.number
        self._offset = 0

    def _shown(self, line: bytes) -> bytes:
        entry = json.loads(line)
        if not self._asked.get(entry["stream"], True):
            return b""
        text: bytes = entry["log"].encode("utf-8", "surrogateescape")
        if self._asked.get("details"):
            text = b" " + text
        if self._asked.get("timestamps"):
            text = entry["time"].encode() + b" " + text
        return self._framing.framed(entry["stream"], text)

    def _gone(self) -> None:
        if self._watched is not None:
            self._watched.close()
        if self._sink.waiting == 0:
            self._sink.close()
        self._ended(self)


def _ignore(_data: bytes) -> None:
    """What a follower says is of no interest."""
