"""Requests to an engine's API over its unix socket.

Each request has a connection of its own, and a time. What the engine answers is bounded: a container's owner may have
chosen it.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from pipelines.errors import ConflictError
from web.errors import ForbiddenError, InvalidRequestError, NotFoundError, UnavailableError

_PATIENCE_S: Final = 20.0
_CONNECT_S: Final = 5.0
_MOST_BYTES: Final = 32 << 20
_MOST_HEAD_BYTES: Final = 64 << 10
_PIECE_BYTES: Final = 64 << 10
_MOST_SIZE_LINE: Final = 100
_SILENT_S: Final = 60.0
"""A stream that should have an end, and of which nothing comes for so long, has broken."""

_REFERENCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
_HINT: Final = "does `shiplap engine`, or `shiplap serve --engine`, run? SHIPLAP_ENGINE names its socket"


class EngineAwayError(UnavailableError):
    """Nobody answers at the engine's socket."""


class EngineClient:
    """Asks the engine at a socket. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path

    def get(self, path: str, /, *, patience_s: float = _PATIENCE_S, **query: str) -> Any:
        """The document at a path. Raises EngineAwayError, and what the engine says against it."""
        return self._asked("GET", path, None, patience_s, query)

    def post(self, path: str, /, body: object = None, *, patience_s: float = _PATIENCE_S, **query: str) -> Any:
        """Have something done; the answer's document, None where it has none. Raises as ``get``."""
        return self._asked("POST", path, body, patience_s, query)

    def delete(self, path: str, /, **query: str) -> None:
        """Have something removed. Raises as ``get``."""
        self._asked("DELETE", path, None, 3 * _PATIENCE_S, query)

    @contextlib.contextmanager
    def stream(self, path: str, /, **query: str) -> Iterator[Stream]:
        """What comes at a path, while it comes. Raises as ``get``."""
        with self._connected(_PATIENCE_S) as sock:
            sock.sendall(f"GET {_target(path, query)} HTTP/1.1\r\nHost: shiplap\r\nConnection: close\r\n\r\n".encode())
            status, headers, early = _head(sock)
            found = Stream(sock, headers, early)
            if status != http.client.OK:
                raise _refused(status, found.begin())
            yield found

    def taken(self, path: str, body: object, headers: str = "") -> tuple[socket.socket, bytes]:
        """A connection that is a stream in both directions from now on, and what has come on it. Raises as ``get``.

        headers: further ones, each with its end of line.
        """
        data = msgspec.json.encode(body)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: shiplap\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{headers}"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        sock = self.connect(_PATIENCE_S)
        try:
            sock.sendall(head.encode() + data)
            status, found, early = _head(sock)
            if status != http.client.SWITCHING_PROTOCOLS:
                raise _refused(status, Stream(sock, found, early).begin())
        except OSError as error:
            sock.close()
            raise EngineAwayError(f"the engine at {self._path} does not answer: {error}", hint=_HINT) from error
        except BaseException:
            sock.close()
            raise
        return sock, early

    def _asked(self, method: str, path: str, body: object, patience_s: float, query: dict[str, str]) -> Any:
        connection = _Connection(self, patience_s)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            data = msgspec.json.encode(body) if body is not None else None
            connection.request(method, _target(path, query), data, headers)
            answer = connection.getresponse()
            text = answer.read(_MOST_BYTES + 1)
        except TimeoutError as error:
            raise UnavailableError("the engine has not answered in time", hint="try again") from error
        except (OSError, http.client.HTTPException) as error:
            raise EngineAwayError(f"the engine at {self._path} does not answer: {error}", hint=_HINT) from error
        finally:
            connection.close()
        if answer.status == http.client.NOT_MODIFIED:  # it is already as it was to be
            return None
        if answer.status >= http.client.BAD_REQUEST:
            raise _refused(answer.status, text)
        if len(text) > _MOST_BYTES:
            raise UnavailableError(f"the engine's answer has more than {_MOST_BYTES >> 20} MiB")
        if not text:
            return None
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnavailableError(f"the engine's answer cannot be read: {error}") from error

    @contextlib.contextmanager
    def _connected(self, patience_s: float) -> Iterator[socket.socket]:
        sock = self.connect(patience_s)
        try:
            yield sock
        except TimeoutError as error:
            raise UnavailableError("the engine has not answered in time", hint="try again") from error
        except OSError as error:
            raise EngineAwayError(f"the engine at {self._path} does not answer: {error}", hint=_HINT) from error
        finally:
            if sock.fileno() >= 0:
                sock.close()

    def connect(self, patience_s: float) -> socket.socket:
        """A connection. Raises EngineAwayError."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(_CONNECT_S)
            sock.connect(self._path)
            sock.settimeout(patience_s)
        except OSError as error:
            sock.close()
            raise EngineAwayError(f"the engine at {self._path} does not answer: {error}", hint=_HINT) from error
        return sock


class _Connection(http.client.HTTPConnection):
    """To the engine's socket."""

    def __init__(self, client: EngineClient, patience_s: float) -> None:
        super().__init__("shiplap", timeout=patience_s)
        self._client = client
        self._patience_s = patience_s

    def connect(self) -> None:
        try:
            self.sock = self._client.connect(self._patience_s)
        except EngineAwayError as error:
            raise ConnectionError(str(error.__cause__)) from error


class Stream:
    """An answer's body, while it comes. For one thread, but ``cut``."""

    def __init__(self, sock: socket.socket, headers: dict[str, str], early: bytes) -> None:
        self._socket = sock
        self._buffer = bytearray(early)
        self.content_type = headers.get("content-type", "").partition(";")[0].strip()
        self._is_chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length", "")
        self._left = int(length) if length.isascii() and length.isdigit() else -1

    def pieces(self, tick_s: float = 0.0) -> Iterator[bytes]:
        """The body in pieces, to its end; tick_s: an empty piece whenever nothing came for so long. Raises OSError."""
        heard_at = time.monotonic()
        self._socket.settimeout(tick_s or _PATIENCE_S)
        while True:
            while (piece := self._next()) is not None:
                if not piece:
                    return
                yield piece
            try:
                data = self._socket.recv(_PIECE_BYTES)
            except TimeoutError:
                if not tick_s and time.monotonic() - heard_at > _SILENT_S:
                    raise
                if tick_s:
                    yield b""
                continue
            heard_at = time.monotonic()
            if not data:
                if self._is_chunked or self._left > 0:
                    raise ConnectionResetError("the engine has gone")
                return
            self._buffer += data

    def cut(self) -> None:
        """End the connection: what reads it gets OSError."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def begin(self) -> bytes:
        """The body, or as much of it as an error may have. Raises OSError."""
        data = b""
        for piece in self.pieces():
            data += piece
            if len(data) >= _MOST_HEAD_BYTES:
                break
        return data

    def _next(self) -> bytes | None:
        """What is there of the body; b"" at its end; None: more has to come."""
        if self._is_chunked:
            return self._chunk()
        if self._left == 0:
            return b""
        if not self._buffer:
            return None
        piece = bytes(self._buffer if self._left < 0 else self._buffer[: self._left])
        del self._buffer[: len(piece)]
        if self._left > 0:
            self._left -= len(piece)
        return piece

    def _chunk(self) -> bytes | None:
        line, separator, _ = bytes(self._buffer[:_MOST_SIZE_LINE]).partition(b"\r\n")
        if not separator:
            if len(self._buffer) >= _MOST_SIZE_LINE:
                raise ConnectionResetError("the engine's answer is in no chunks")
            return None
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError as error:
            raise ConnectionResetError("the engine's answer is in no chunks") from error
        if not 0 <= size <= _MOST_BYTES:
            raise ConnectionResetError("the engine's answer has too large a chunk")
        begin = len(line) + 2
        if len(self._buffer) < begin + size + 2:
            return None
        piece = bytes(self._buffer[begin : begin + size])
        del self._buffer[: begin + size + 2]
        return piece


def reference(text: str) -> str:
    """A container's name or ID, as it goes into a path. Raises NotFoundError for what is none."""
    if not _REFERENCE.fullmatch(text):
        raise NotFoundError(f"{text[:100]!r} is no name and no ID")
    return text


def _target(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _head(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers by small names, and what came behind them. Raises OSError."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(_PIECE_BYTES)
        if not piece or len(data) > _MOST_HEAD_BYTES:
            raise ConnectionResetError("the engine has gone")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    match = _STATUS.match(first)
    if match is None:
        raise ConnectionResetError("what answers is no engine")
    pairs = (line.decode("latin-1").partition(":")[::2] for line in lines)
    return int(match[1]), {name.strip().lower(): value.strip() for name, value in pairs}, rest


def _refused(status: int, data: bytes) -> Exception:
    """What an answer says against a request, as an error of ours."""
    try:
        said = msgspec.json.decode(data, type=dict[str, Any]).get("message")
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = None
    message = said[:2000] if isinstance(said, str) and said else f"the engine answers with status {status}"
    match status:
        case http.client.NOT_FOUND:
            return NotFoundError(message)
        case http.client.CONFLICT:
            return ConflictError(message)
        case http.client.BAD_REQUEST:
            return InvalidRequestError(message)
        case http.client.FORBIDDEN:
            return ForbiddenError(message, hint="the engine knows the web process's user: SHIPLAP_ENGINE in settings")
    return UnavailableError(message)
