"""Build contexts: say what is in one, send what the server lacks."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from pipelines.contexts import ContextEntry, SupportsRead
from web.calls import Call
from web.endpoints import Api
from web.errors import InvalidRequestError, LengthRequiredError

api: Final = Api("contexts")

_HEADER_BYTES: Final = 100
_BUFFER_BYTES: Final = 256 << 10
_BLOBS: Final = "application/vnd.shiplap.blobs"


class ContextRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every file, directory and link of the context, in any order."""

    entries: list[ContextEntry]


class ContextReply(msgspec.Struct, frozen=True):
    """context: what a run's source names. missing: digests of files that are to be sent before a run can use it."""

    context: str
    missing: list[str]


class BlobsReply(msgspec.Struct, frozen=True):
    """How many blobs were taken."""

    stored: int


@api.endpoint("POST", "/contexts", scope="build", noted=False)
def begin_context(call: Call, body: ContextRequest) -> ContextReply:
    """Describe a build context, and learn which files the server lacks."""
    context, missing = call.service.contexts.begin(body.entries)
    return ContextReply(context, missing)


@api.endpoint(
    "PUT", "/contexts/blobs/{digest}", scope="build", status=204, accepts="application/octet-stream", noted=False,
    errors={411: "The request has no Content-Length"},
)  # fmt: skip
def put_blob(call: Call, digest: Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]) -> None:
    """Send one file's content."""
    call.service.contexts.put_blob(digest, _body(call))


@api.endpoint("POST", "/contexts/blobs", scope="build", accepts=_BLOBS, noted=False)
def put_blobs(call: Call) -> BlobsReply:
    """Send the content of many small files at once.

    The body is a sequence of records: the digest, a space, the size in bytes as decimal digits, a newline, and then so
    many bytes.
    """
    stream = _Buffered(_body(call))
    stored = 0
    while header := stream.line(_HEADER_BYTES):
        digest, _, size = header.partition(b" ")
        if not header.endswith(b"\n") or not size[:-1].isdigit() or not digest.isascii():
            raise InvalidRequestError(f"blob {stored + 1} of the body has no header", hint="DIGEST SIZE newline bytes")
        part = _Part(stream, int(size))
        call.service.contexts.put_blob(digest.decode(), part)
        if part.left:
            raise InvalidRequestError(f"the body ends within blob {stored + 1}")
        stored += 1
    return BlobsReply(stored)


def _body(call: Call) -> SupportsRead:
    if call.request.content_length is None:
        raise LengthRequiredError("the request has no Content-Length")
    return _Part(call.request.stream, call.request.content_length)


class _Part:
    """The next ``left`` bytes of a stream."""

    def __init__(self, stream: SupportsRead, left: int) -> None:
        self._stream = stream
        self.left = left

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(data)
        return data


class _Buffered:
    """A stream that can be asked for a line, too."""

    def __init__(self, stream: SupportsRead) -> None:
        self._stream = stream
        self._buffer = b""

    def read(self, size: int, /) -> bytes:
        if not self._buffer:
            return self._stream.read(size)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def line(self, limit: int) -> bytes:
        """Up to and including the next newline, at most ``limit`` bytes; less at the end."""
        while b"\n" not in self._buffer[:limit] and len(self._buffer) < limit:
            data = self._stream.read(_BUFFER_BYTES)
            if not data:
                break
            self._buffer += data
        end = self._buffer.find(b"\n", 0, limit) + 1 or min(limit, len(self._buffer))
        data, self._buffer = self._buffer[:end], self._buffer[end:]
        return data
