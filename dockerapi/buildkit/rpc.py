"""gRPC on HTTP/2's streams: calls that clients make of us, and calls that we make of a client's own services.

A message has five bytes before it: whether it is compressed, which nothing here is, and how long it is.
Source: gRPC's "gRPC over HTTP2".
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from urllib.parse import quote, unquote

from core.cancellation import check
from core.errors import ShiplapError
from dockerapi.buildkit.httpstream import PATIENCE_S, Headers, Stream, StreamError
from dockerapi.buildkit.messages import DecodeError
from dockerapi.buildkit.transport import Connection

MOST_MESSAGE: Final = 16 << 20
"""Bytes of one message of a client's services, as BuildKit has it."""

MOST_REQUEST: Final = 1 << 20
"""Bytes of one message of a call of a client's: each of its calls may have us keep one."""

_MOST_DIGITS: Final = 10
_PREFIX: Final = struct.Struct(">BI")
_KIND: Final = b"application/grpc"


class Code(IntEnum):
    """gRPC's status codes, those that are used here."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class RpcError(ShiplapError):
    """A call that ends with another status than OK. code: which, maybe one that ``Code`` lacks."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Messages:
    """The messages of one stream, in both directions."""

    most = MOST_MESSAGE

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._read = bytearray()

    def send(self, message: Any) -> None:
        """Send a message. Raises RpcError where the other side is gone."""
        self.send_all([message])

    def send_all(self, messages: Iterable[Any]) -> None:
        """Send messages at once. Raises RpcError."""
        encoded = [message.SerializeToString() for message in messages]
        try:
            self.stream.write(b"".join(_PREFIX.pack(0, len(data)) + data for data in encoded))
        except StreamError as error:
            raise RpcError(Code.UNAVAILABLE, str(error)) from error

    def receive(self, kind: Any, timeout_s: float | None) -> Any | None:
        """The next message; None when no more come. Raises RpcError."""
        whole = self._await_message(timeout_s)
        if not whole:
            return None
        data = bytes(self._read[_PREFIX.size : whole])
        del self._read[:whole]
        return decoded(kind, data)

    def receive_some(self, timeout_s: float | None) -> list[bytes]:
        """The bytes of the next message and of those that are here already; none when no more come. Raises RpcError."""
        if not self._await_message(timeout_s):
            return []
        found, place = [], 0
        while len(self._read) - place >= _PREFIX.size and (end := self._end_of_message(place)) <= len(self._read):
            found.append(bytes(self._read[place + _PREFIX.size : end]))
            place = end
        del self._read[:place]
        return found

    def pass_over(self, known: bytes, timeout_s: float | None) -> int:
        """Pass over messages as long as they are, byte for byte, those of ``known``: how many bytes. Raises RpcError.

        What differs is received next; its beginning may be what ``known`` has next, too.
        """
        place = 0
        while place < len(known) and (self._read or self._fill(1, timeout_s)):
            check()
            size = min(len(self._read), len(known) - place)
            if self._read[:size] != known[place : place + size]:
                break
            del self._read[:size]
            place += size
        whole = 0
        while whole + _PREFIX.size <= place:
            end = whole + _PREFIX.size + int(_PREFIX.unpack_from(known, whole)[1])
            if end > place:
                break
            whole = end
        self._read[:0] = known[whole:place]
        return whole

    def _await_message(self, timeout_s: float | None) -> int:
        """Have a whole message: where it ends, 0 when no more come. Raises RpcError."""
        if not self._fill(_PREFIX.size, timeout_s):
            if self._read:
                raise RpcError(Code.INTERNAL, "a message ended within its head")
            return 0
        end = self._end_of_message(0)
        if not self._fill(end, timeout_s):
            raise RpcError(Code.INTERNAL, "a message ended before its end")
        return end

    def _end_of_message(self, place: int) -> int:
        """Where the message ends that begins at a place of what was read. Raises RpcError for one that is refused."""
        compressed, length = _PREFIX.unpack_from(self._read, place)
        if compressed:
            raise RpcError(Code.UNIMPLEMENTED, "compressed messages are not done")
        if length > self.most:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"a message of {length} bytes: at most {self.most}")
        return place + _PREFIX.size + int(length)

    def _fill(self, size: int, timeout_s: float | None) -> bool:
        """Have so many bytes; False at the end of the stream."""
        while len(self._read) < size:
            try:
                data = self.stream.read(timeout_s)
            except StreamError as error:
                raise RpcError(Code.UNAVAILABLE, str(error)) from error
            if not data:
                return False
            self._read += data
        return True


class Call(_Messages):
    """A call that a client makes.

    method: ``/package.Service/Method``.
    cancelled: set when the client cancels the call, or is gone.
    names: of the images that it is to make, once whoever serves it has read them.
    """

    most = MOST_REQUEST

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._headers = _texts(stream.headers or ())
        self.method = self.header(":path")
        self.cancelled = threading.Event()
        self.names: list[str] = []
        self._has_begun = False
        stream.when_gone(self.cancelled.set)

    def header(self, name: str) -> str:
        """A member of the call's metadata; "" when it is absent."""
        return self.headers(name)[0] if self.headers(name) else ""

    def headers(self, name: str) -> list[str]:
        """All values of a member."""
        return [value for key, value in self._headers if key == name]

    def one(self, kind: Any) -> Any:
        """The message of a call that has one. Raises RpcError."""
        message = self.receive(kind, PATIENCE_S)
        if message is None:
            raise RpcError(Code.INVALID_ARGUMENT, f"{self.method} without a message")
        return message

    def send(self, message: Any) -> None:
        self.begin()
        super().send(message)

    def begin(self) -> None:
        """Send the head of the answer, unless it was sent."""
        if not self._has_begun:
            self._has_begun = True
            try:
                self.stream.send_headers([(b":status", b"200"), (b"content-type", _KIND)])
            except StreamError as error:
                raise RpcError(Code.UNAVAILABLE, str(error)) from error

    def finish(self, code: int = Code.OK, message: str = "") -> None:
        """End the call with a status."""
        status = [(b"grpc-status", b"%d" % code)]
        if message:
            # A message may have names of files in it, which need not be UTF-8.
            text = quote(message[:8192], safe=" !#$&'()*+,/:;=?@[]", errors="backslashreplace")
            status.append((b"grpc-message", text.encode()))
        try:
            if self._has_begun:
                self.stream.send_headers(status, end=True)
            else:
                self.stream.send_headers([(b":status", b"200"), (b"content-type", _KIND), *status], end=True)
        except StreamError:
            pass
        self.stream.close()


Method: TypeAlias = Callable[[Call], None]
"""Serves a call: receives, sends, returns; or raises a ShiplapError, which the client gets as a status."""


class Asked(_Messages):
    """A call that we make of a client's service. Its ``with`` ends it, whatever its state."""

    def __init__(self, connection: Connection, method: str, metadata: Mapping[str, Sequence[str]]) -> None:
        headers: list[tuple[bytes, bytes]] = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", method.encode()),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", _KIND),
        ]
        headers += [(name.encode(), value.encode()) for name, values in metadata.items() for value in values]
        try:
            super().__init__(connection.open(headers))
        except StreamError as error:
            raise RpcError(Code.UNAVAILABLE, str(error)) from error
        self._method = method

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stream.close()

    def receive(self, kind: Any, timeout_s: float | None = PATIENCE_S) -> Any | None:
        """The next message; None when the call has ended well. Raises RpcError with the status of one that has not."""
        found = super().receive(kind, timeout_s)
        if found is None:
            self._check()
        return found

    def end(self) -> None:
        """Say that nothing more is sent."""
        try:
            self.stream.end()
        except StreamError as error:
            raise RpcError(Code.UNAVAILABLE, str(error)) from error

    def _check(self) -> None:
        try:
            head = self.stream.await_headers(PATIENCE_S)
        except StreamError as error:
            raise RpcError(Code.UNAVAILABLE, str(error)) from error
        status = dict(_texts((*head, *self.stream.trailers)))
        text = status.get("grpc-status", "")
        code = int(text) if text.isascii() and text.isdigit() and len(text) < _MOST_DIGITS else Code.UNKNOWN
        if code:
            message = unquote(status.get("grpc-message", "")) or f"{self._method} failed"
            raise RpcError(code, message)


def ask(connection: Connection, method: str, message: Any, kind: Any) -> Any:
    """Make a call with one message and one answer. Raises RpcError."""
    with Asked(connection, method, {}) as asked:
        asked.send(message)
        asked.end()
        found = asked.receive(kind)
        if found is None:
            raise RpcError(Code.INTERNAL, f"{method} answered nothing")
        return found


def decoded(kind: Any, data: bytes) -> Any:
    """A message of its bytes. Raises RpcError."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise RpcError(Code.INVALID_ARGUMENT, f"this is no {kind.DESCRIPTOR.name}: {error}") from error


def _texts(headers: Headers) -> list[tuple[str, str]]:
    return [(bytes(name).decode("latin-1"), bytes(value).decode("utf-8", "replace")) for name, value in headers]
