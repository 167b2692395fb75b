"""What a container wrote, from the bytes of a stream of the engine's, with the moment of each piece. Pure.

Two streams come in frames: a head of 8 bytes that says which one and how long, then a moment, a space, and what was
written. A terminal's is one stream of lines, each with its moment in front.
"""

from __future__ import annotations

import re
import struct
from datetime import datetime
from typing import Final, Literal, NamedTuple

from core.errors import ShiplapError

TERMINAL: Final = "application/vnd.docker.raw-stream"

_HEAD: Final = struct.Struct(">B3xI")
_STREAMS: Final[dict[int, Literal[1, 2]]] = {1: 1, 2: 2}
_MOST_BYTES: Final = 1 << 20
"""Of a frame, or of a terminal's line: an engine writes what is longer in parts."""

_MOMENT: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z ")
_SECOND: Final = 1_000_000_000


class FrameError(ShiplapError):
    """The bytes are no stream of an engine's."""


class Frame(NamedTuple):
    """What was written at once. at_ns: nanoseconds since the epoch. stream: 1 or 2."""

    at_ns: int
    stream: Literal[1, 2]
    data: bytes


class FrameParser:
    """Makes frames of what comes. is_terminal: it is one stream."""

    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._buffer = bytearray()
        self._last_ns = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole with these bytes. Raises FrameError."""
        self._buffer += data
        return self._lines() if self._is_terminal else self._frames()

    def rest(self) -> list[Frame]:
        """What is left at the end: a terminal's line without an end."""
        data, self._buffer = bytes(self._buffer), bytearray()
        return [self._of(1, data)] if self._is_terminal and data else []

    def _frames(self) -> list[Frame]:
        found, at = [], 0
        while len(self._buffer) - at >= _HEAD.size:
            number, size = _HEAD.unpack_from(self._buffer, at)
            if number not in _STREAMS or size > _MOST_BYTES:
                raise FrameError("the engine's stream has a frame that is none")
            begin = at + _HEAD.size
            if len(self._buffer) < begin + size:
                break
            found.append(self._of(_STREAMS[number], bytes(self._buffer[begin : begin + size])))
            at = begin + size
        del self._buffer[:at]
        return found

    def _lines(self) -> list[Frame]:
        *lines, rest = bytes(self._buffer).split(b"\n")
        if len(rest) > _MOST_BYTES:
            lines, rest = [*lines, rest], b""
        self._buffer = bytearray(rest)
        return [self._of(1, line + b"\n") for line in lines]

    def _of(self, stream: Literal[1, 2], data: bytes) -> Frame:
        match = _MOMENT.match(data)
        if match is None:  # the part of a line that began before
            return Frame(self._last_ns, stream, data)
        try:
            seconds = int(datetime.fromisoformat(match[1].decode() + "+00:00").timestamp())
        except ValueError as error:
            raise FrameError("the engine's stream has a moment that is none") from error
        self._last_ns = seconds * _SECOND + int(match[2])
        return Frame(self._last_ns, stream, data[match.end() :])
