"""Many blobs as one stream. Each is its digest, a space, its size in decimal digits, a newline, and then its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from pipelines.errors import InvalidRequestError

MEDIA_TYPE: Final = "application/vnd.shiplap.blobs"
_HEADER_BYTES: Final = 100
_BUFFER_BYTES: Final = 256 << 10


class SupportsRead(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes: ...


class Part:
    """The next ``left`` bytes of a stream."""

    def __init__(self, stream: SupportsRead, left: int) -> None:
        self._stream = stream
        self.left = left

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(data)
        return data


def decode_blobs(stream: SupportsRead) -> Iterator[tuple[str, Part]]:
    """Digest and content of each blob; the caller reads each content before it asks for the next blob.

    The digest is the sender's, and proves nothing yet. Raises InvalidRequestError.
    """
    buffered = _Buffered(stream)
    count = 0
    while header := buffered.line(_HEADER_BYTES):
        count += 1
        digest, _, size = header.partition(b" ")
        if not header.endswith(b"\n") or not size[:-1].isdigit() or not digest.isascii():
            raise InvalidRequestError(f"blob {count} of the body has no header", hint="DIGEST SIZE newline bytes")
        part = Part(buffered, int(size))
        yield digest.decode(), part
        if part.left:
            raise InvalidRequestError(f"the body ends within blob {count}")


def encode_blobs(blobs: Iterable[tuple[str, Path]]) -> Iterator[bytes]:
    """The stream of these files' contents; small files share a piece. Raises OSError."""
    pending = bytearray()
    for digest, path in blobs:
        with path.open("rb", buffering=0) as file:
            size = path.stat().st_size
            pending += b"%s %d\n" % (digest.encode(), size)
            while data := file.read(min(size, _BUFFER_BYTES)):
                pending += data
                size -= len(data)
                if len(pending) >= _BUFFER_BYTES:
                    yield bytes(pending)
                    pending.clear()
    if pending:
        yield bytes(pending)


class _Buffered:
    """A stream that can be asked for a line, too."""

    def __init__(self, stream: SupportsRead) -> None:
        self._stream = stream
        self._buffer = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        if not self._buffer:
            if size >= _BUFFER_BYTES:
                return self._stream.read(size)
            self._buffer = memoryview(self._stream.read(_BUFFER_BYTES))
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return bytes(data)

    def line(self, limit: int) -> bytes:
        """Up to and including the next newline, at most ``limit`` bytes; less at the end."""
        head = bytes(self._buffer[:limit])
        while b"\n" not in head and len(head) < limit:
            data = self._stream.read(_BUFFER_BYTES)
            if not data:
                break
            self._buffer = memoryview(bytes(self._buffer) + data)
            head = bytes(self._buffer[:limit])
        end = head.find(b"\n") + 1 or len(head)
        self._buffer = self._buffer[end:]
        return head[:end]
