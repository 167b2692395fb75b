"""A peer's bytes, cut into HTTP/2's frames: data of streams is taken here, and all else is for h2.

A context is tens of thousands of frames of data. h2 makes objects and events of each, which takes longer than writing
the files. What it has to know of data is only that a stream has ended, and that is told it by an empty frame. It counts
no bytes of what it has not seen: whoever takes data from here grants the peer as much again.
Source: RFC 9113, "Frame Format", "DATA", "WINDOW_UPDATE".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from h2.exceptions import FrameTooLargeError

_HEAD: Final = struct.Struct(">HBBBI")
_DATA: Final = 0
_END_STREAM: Final = 1
_PADDED: Final = 8
_WINDOW_UPDATE: Final = 8
_PREFACE_BYTES: Final = 24


class Data(NamedTuple):
    """A frame of data. stream: its number. is_last: the peer sends nothing more on the stream."""

    stream: int
    payload: bytes
    is_last: bool


class Frames:
    """The frames of one connection. opens: whether this end opens it: then the peer sends no preface."""

    def __init__(self, *, opens: bool) -> None:
        self._preface = 0 if opens else _PREFACE_BYTES
        self._rest = b""

    def cut(self, data: bytes, most_bytes: int, is_open: Callable[[int], bool]) -> Iterator[Data | bytes]:
        """What came: data of open streams, and bytes for h2, in their order.

        most_bytes: of a frame. Raises FrameTooLargeError.
        is_open: whether data of a stream is taken here; asked when all before it has been handled.
        """
        if self._preface:
            yield data[: self._preface]
            data, self._preface = data[self._preface :], max(0, self._preface - len(data))
        if self._rest:
            data = self._rest + data
        place = others = 0
        size = len(data)
        while size - place >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, place)
            length = high << 8 | low
            if length > most_bytes:
                raise FrameTooLargeError(f"a frame of {length} bytes")  # h2 would wait for all of it
            end = place + _HEAD.size + length
            if end > size:
                break
            if kind == _DATA and not flags & _PADDED:
                if others < place:
                    yield data[others:place]
                    others = place
                stream &= 0x7FFFFFFF
                if is_open(stream):
                    yield Data(stream, data[place + _HEAD.size : end], bool(flags & _END_STREAM))
                    others = end
            place = end
        if others < place:
            yield data[others:place]
        self._rest = data[place:]


def ending(stream: int) -> bytes:
    """An empty frame of data that ends a stream."""
    return _HEAD.pack(0, 0, _DATA, _END_STREAM, stream)


def grant(stream: int, size: int) -> bytes:
    """A frame that lets the peer send so many bytes more, on a stream and on the connection, or (0) on that alone."""
    both = (stream, 0) if stream else (0,)
    return b"".join(_HEAD.pack(0, 4, _WINDOW_UPDATE, 0, number) + struct.pack(">I", size) for number in both)
