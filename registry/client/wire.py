"""HTTP/1.1 as a client speaks it, on a connection that somebody else has made: one request, then its response.

Sources: RFC 9110, RFC 9112. It is no more than registries need: no pipelining, no upgrades, no content codings.
``http.client`` takes 15 ms to load, and urllib3 60: that was most of a push that has nothing to send.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

_HEAD_BYTES: Final = 64 << 10  # of a response's status line and headers
_LINE_BYTES: Final = 8 << 10  # of a line between chunks
_TRAILER_BYTES: Final = 64 << 10  # of all lines after the last chunk
_MOST_INTERIM: Final = 100  # responses of 1xx before the one that counts
_RECEIVE_BYTES: Final = 64 << 10
_ENOUGH_BYTES: Final = 64 << 10  # a read is answered by what has come, once that is worth its way

_STATUS: Final = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: .*)?")
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")
_LENGTH: Final = re.compile(r"\d{1,18}")
_CHUNK: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?\r?\n")
_WITHOUT_BODY: Final = frozenset({204, 304})
_WITH_LENGTH: Final = frozenset({"POST", "PUT", "PATCH"})  # also where nothing is sent


class ProtocolError(Exception):
    """What came is no HTTP, or ended before its end."""


class Stream(Protocol):
    """What of a socket is used here. ``recv`` returns b"" at the end."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...


class Headers(Mapping[str, str]):
    """Headers of a response, by name in any case. What came several times is joined by commas."""

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in lines:
            key = name.lower()
            before = self._values.get(key)
            self._values[key] = value if before is None else f"{before}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Exchange:
    """A request that was sent, and its response. For one thread at a time.

    Made by ``ask``. Each method raises OSError and ProtocolError.
    """

    def __init__(self, stream: Stream, method: str) -> None:
        self._stream = stream
        self._received = bytearray()  # what is taken from its beginning costs no copy of the rest
        self._failed: OSError | ProtocolError | None = None
        self._was_cut_short = False
        self.status, self.headers, version = self._head()
        self._is_chunked = False
        self._is_after_chunk = False
        self._left: int | None = 0  # of the body, or of the chunk; None: it goes on to the connection's end
        self.is_done = False
        """Whether the whole response has been read."""
        self._frame(method)
        asked = self.headers.get("Connection", "").lower()
        stays = "close" not in asked if version else "keep-alive" in asked
        self._stays = stays and self._left is not None

    @property
    def is_reusable(self) -> bool:
        """Whether the connection can be used for another request now."""
        return self.is_done and self._stays and not self._received and not self._was_cut_short

    def cut_short(self) -> None:
        """Note that the request was not sent whole: the connection is good for this response only."""
        self._was_cut_short = True

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes of the body, b"" at its end. What came before an error is returned before it."""
        if self._failed is not None:
            raise self._failed
        pieces: list[bytes] = []
        got = 0
        try:
            while got < min(size, _ENOUGH_BYTES) and (data := self._piece(size - got)):
                pieces.append(data)
                got += len(data)
        except (OSError, ProtocolError) as error:
            self._failed = error
            if not pieces:
                raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def drain(self, limit: int, within_s: float) -> None:
        """Read what is left of the body, where that is at most so many bytes and the connection is good for more.

        It ends after so many seconds, and the stream's time-out for one read.
        """
        if not self._stays or self._failed is not None or (not self._is_chunked and (self._left or 0) > limit):
            return
        ends_at = time.monotonic() + within_s
        while limit > 0 and not self.is_done and time.monotonic() < ends_at and (data := self._piece(limit)):
            limit -= len(data)

    def _head(self) -> tuple[int, Headers, int]:
        """The status, the headers, and whether it is HTTP/1.1; 1xx before it says nothing that counts."""
        for _ in range(_MOST_INTERIM + 1):
            lines = self._until_blank_line().split(b"\n")
            said = _STATUS.fullmatch(lines[0].rstrip(b"\r"))
            if said is None:
                raise ProtocolError("the answer is no HTTP")
            status = int(said[2])
            if status >= 200 or status == 101:
                return status, Headers(_fields(lines[1:])), int(said[1])
        raise ProtocolError(f"over {_MOST_INTERIM} answers came of which none was the last")

    def _until_blank_line(self) -> bytes:
        looked_at = 0
        while (end := _END_OF_HEAD.search(self._received, looked_at)) is None:
            looked_at = max(0, len(self._received) - 3)
            if len(self._received) > _HEAD_BYTES:
                raise ProtocolError(f"the answer has over {_HEAD_BYTES} bytes of headers")
            data = self._stream.recv(_RECEIVE_BYTES)
            if not data:
                raise ProtocolError("it was closed in the middle of an answer" if self._received else NO_ANSWER)
            self._received += data
        head = bytes(self._received[: end.start()])
        del self._received[: end.end()]
        return head

    def _frame(self, method: str) -> None:
        """Find out where the body ends.  RFC 9112, 6.3."""
        if method == "HEAD" or self.status in _WITHOUT_BODY:
            self.is_done = True
            return
        coding = self.headers.get("Transfer-Encoding", "")
        if coding:
            self._is_chunked = coding.lower().rpartition(",")[2].strip() == "chunked"
            self._left = 0 if self._is_chunked else None
            return
        stated = {text.strip() for text in self.headers.get("Content-Length", "").split(",")}
        if stated == {""}:
            self._left = None
            return
        length = stated.pop()
        if stated or not _LENGTH.fullmatch(length):
            raise ProtocolError("the answer states no usable length")
        self._left = int(length)
        self.is_done = not self._left

    def _piece(self, size: int) -> bytes:
        if self.is_done or (self._is_chunked and not self._left and not self._next_chunk()):
            return b""
        data = self._receive(size if self._left is None else min(size, self._left))
        if self._left is None:
            self.is_done = not data
            return data
        if not data:
            raise ProtocolError(f"it was closed {self._left} bytes too early")
        self._left -= len(data)
        self._is_after_chunk = self._is_chunked
        self.is_done = not self._left and not self._is_chunked
        return data

    def _next_chunk(self) -> bool:
        """Read a chunk's size. False, after the trailer: there is none left."""
        if self._is_after_chunk:
            self._line()  # the end of line after a chunk
        said = _CHUNK.fullmatch(self._line())
        if said is None:
            raise ProtocolError("the answer comes in chunks of which one has no size")
        self._left = int(said[1], 16)
        if self._left:
            return True
        left = _TRAILER_BYTES
        while (line := self._line()).strip():
            left -= len(line)
            if left < 0:
                raise ProtocolError(f"the answer has over {_TRAILER_BYTES} bytes after its last chunk")
        self.is_done = True
        return False

    def _line(self) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > _LINE_BYTES:
                raise ProtocolError("the answer comes in chunks of which one has no size")
            data = self._stream.recv(_RECEIVE_BYTES)
            if not data:
                raise ProtocolError("it was closed between two chunks")
            self._received += data
        return self._taken(end + 1)

    def _receive(self, size: int) -> bytes:
        if not self._received:
            return self._stream.recv(size)
        return self._taken(size)

    def _taken(self, size: int) -> bytes:
        data = bytes(self._received[:size])
        del self._received[:size]
        return data


NO_ANSWER: Final = "it was closed without an answer"


def ask(
    stream: Stream, method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None = None
) -> Exchange:
    """Send a request, and return once the response's headers are there. Raises OSError, ProtocolError.

    target: a path with its query, or a whole URL for a proxy.
    body: pieces need a Content-Length in ``headers``, or ``Transfer-Encoding: chunked`` where nobody knows it yet. A
    server may answer before it has read all of it, and hang up.
    """
    stated = {name.lower(): value for name, value in headers.items()}
    more: dict[str, str] = {}
    if isinstance(body, bytes) or (body is None and method in _WITH_LENGTH):
        more = {"Content-Length": str(len(body or b""))}
    head = _head_of(method, target, {**headers, **more} if "content-length" not in stated else headers)
    is_whole = True
    try:
        if body is None or isinstance(body, bytes):
            stream.sendall(head + (body or b""))
        else:
            stream.sendall(head)
            if stated.get("transfer-encoding") == "chunked":
                _send_chunks(stream, body)
            else:
                _send_pieces(stream, body, int(stated["content-length"]))
    except (BrokenPipeError, ConnectionResetError):
        is_whole = False  # it may have said why
    exchange = Exchange(stream, method)
    if not is_whole:
        exchange.cut_short()
    return exchange


def _send_pieces(stream: Stream, pieces: Iterable[bytes], length: int) -> None:
    sent = 0
    for piece in pieces:
        sent += len(piece)
        if sent > length:
            break
        stream.sendall(piece)
    if sent != length:
        raise ProtocolError(f"what is to be sent has not the {length} bytes that were announced")


def _send_chunks(stream: Stream, pieces: Iterable[bytes]) -> None:
    end_of_last = b""
    for piece in pieces:
        if piece:  # an empty chunk would be the end
            stream.sendall(b"%b%x\r\n" % (end_of_last, len(piece)))
            stream.sendall(piece)
            end_of_last = b"\r\n"
    stream.sendall(end_of_last + b"0\r\n\r\n")


def _head_of(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if any("\n" in line or "\r" in line for line in lines):
        raise ProtocolError("a line end is in what is to be sent as a header")
    try:
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    except UnicodeEncodeError as error:
        raise ProtocolError("a character is in what is to be sent as a header that cannot be there") from error


def _fields(lines: Iterable[bytes]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in lines:
        text = line.decode("latin-1").rstrip("\r")
        if text[:1] in (" ", "\t") and found:  # a line that goes on, as RFC 9112, 5.2 has it
            found[-1] = (found[-1][0], f"{found[-1][1]} {text.strip()}")
            continue
        name, colon, value = text.partition(":")
        if colon:
            found.append((name.strip(), value.strip()))
    return found
