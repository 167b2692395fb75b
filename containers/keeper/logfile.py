"""A container's output as docker's json-file lines: ``log/N.json``, the last few files of some size, N rising.

    {"log":"text\\n","stream":"stdout","time":"2026-11-28T10:27:02.123456789Z"}

Bytes that are no UTF-8 are lone surrogates in the text (``surrogateescape``): who reads a line gets them back. A line
of more than PART_BYTES is written in parts, of which only the last one ends with a line feed. Times rise within a log.
When the disk has no room, lines are lost, and the container goes on.
"""

from __future__ import annotations

import errno
import os
import time
from _json import encode_basestring_ascii  # what ``json`` wraps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PART_BYTES = 16 << 10
DEFAULT_MOST_BYTES = 20 << 20
DEFAULT_FILES = 5
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Log:
    """Writes one container's log.

    folder: ``log`` of the container, made when it is missing.
    most_bytes: of a file. most_files: at least one.
    """

    def __init__(self, folder: str, most_bytes: int, most_files: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._most_files = max(1, most_files)
        self._begun: dict[str, bytes] = {}
        self._last_ns = 0
        os.makedirs(folder, 0o700, exist_ok=True)
        known = numbers(folder)
        self.number = known[-1] if known else 1
        self._fd = self._opened()
        self.size = os.fstat(self._fd).st_size
        self._end_last_line()

    def fileno(self) -> int:
        """The descriptor that is to be closed in children."""
        return self._fd

    def write(self, stream: str, data: bytes) -> None:
        """Take output; whole lines, and parts of long ones, are written at once."""
        data = self._begun.pop(stream, b"") + data
        lines = data.split(b"\n")
        rest = lines.pop()
        pieces: list[bytes] = []
        for line in lines:
            if len(line) < PART_BYTES:
                pieces.append(line + b"\n")
            else:
                pieces += _parts(line + b"\n")
        while len(rest) >= PART_BYTES:
            pieces.append(rest[:PART_BYTES])
            rest = rest[PART_BYTES:]
        if rest:
            self._begun[stream] = rest
        self._append(stream, pieces)

    def end(self) -> None:
        """Write the lines that have no end: nothing will come after them."""
        for stream in list(self._begun):
            self._append(stream, [self._begun.pop(stream)])

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _append(self, stream: str, pieces: list[bytes]) -> None:
        if not pieces:
            return
        now = max(time.time_ns(), self._last_ns + 1)
        self._last_ns = now + len(pieces)
        middle = f',"stream":"{stream}","time":"'
        seconds, fraction = divmod(now, 1_000_000_000)
        if fraction + len(pieces) >= 1_000_000_000:
            seconds, fraction = seconds + 1, 0
            self._last_ns = seconds * 1_000_000_000 + len(pieces)
        middle += time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        quoted = encode_basestring_ascii
        made = [
            f'{{"log":{quoted(piece.decode("utf-8", "surrogateescape"))}{middle}.{number:09d}Z"}}\n'
            for number, piece in enumerate(pieces, fraction)
        ]
        self._put("".join(made).encode("ascii"))

    def _put(self, text: bytes) -> None:
        if self.size and self.size + len(text) > self._most_bytes:
            self._rotate()
        try:
            written = os.write(self._fd, text)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            return
        if written < len(text):
            os.ftruncate(self._fd, self.size)  # no half a line
            return
        self.size += written

    def _rotate(self) -> None:
        try:
            self.number += 1
            fd = self._opened()
        except OSError as error:
            self.number -= 1
            if error.errno not in (*_NO_ROOM, errno.EMFILE, errno.ENFILE):
                raise
            return
        os.close(self._fd)
        self._fd, self.size = fd, 0
        for old in numbers(self._folder)[: -self._most_files]:
            os.unlink(path(self._folder, old))

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(path(self._folder, self.number), flags, 0o600)

    def _end_last_line(self) -> None:
        """A keeper that was killed, or a host that went down, may have left half a line."""
        if self.size and os.pread(self._fd, 1, self.size - 1) != b"\n":
            tail = os.pread(self._fd, 1 << 20, max(0, self.size - (1 << 20)))
            self.size -= len(tail) - (tail.rfind(b"\n") + 1)
            os.ftruncate(self._fd, self.size)


class NoLog:
    """What takes the place of a log that is not wanted (driver ``none``)."""

    number = 0
    size = 0

    def write(self, stream: str, data: bytes) -> None:
        """Forget it."""

    def end(self) -> None:
        """There is nothing to be ended."""

    def close(self) -> None:
        """There is nothing to be closed."""


def opened(container: str, wanted: dict[str, Any]) -> Log | NoLog:
    """The log of a container. container: its directory. wanted: ``log`` of its spec. Raises OSError."""
    if wanted.get("driver") == "none":
        return NoLog()
    most_bytes = int(wanted.get("max_size") or DEFAULT_MOST_BYTES)
    return Log(f"{container}/log", most_bytes, int(wanted.get("max_file") or DEFAULT_FILES))


def numbers(folder: str) -> list[int]:
    """The numbers of a log's files, oldest first."""
    try:
        stems = [name.removesuffix(".json") for name in os.listdir(folder) if name.endswith(".json")]
    except FileNotFoundError:
        return []
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def path(folder: str, number: int) -> str:
    """A file of a log."""
    return f"{folder}/{number}.json"


def _parts(line: bytes) -> list[bytes]:
    return [line[start : start + PART_BYTES] for start in range(0, len(line), PART_BYTES)]
