"""The terminals of people who have a shell in a job: a WebSocket each, passed on to the shell's streams and back.

The connection is taken from gunicorn, which goes on after the request as after any other: it writes an answer and
closes its socket. So the connection is duplicated, and a dead socket is put in the place of gunicorn's. Two threads of
its own serve it then, and none of those that answer requests.

Binary messages are what is typed, and what is shown. Text messages are JSON: ``{"rows": 24, "columns": 80}`` of the
terminal; ``{"opened": true}`` and ``{"exit_code": 0, "reason": ""}`` of the shell, the last one before the end.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from core.errors import WebSocketError
from core.takenover import taken_over
from core.websocket import Message, Reader, accepted, frame
from pipelines.errors import PipelineError
from pipelines.runs.shellpipes import PIECE_BYTES, TICK_S, PipeEnd, ShellPipes
from pipelines.runs.shells import Shells
from web.errors import InvalidRequestError, UnavailableError

_MOST: Final = 32  # terminals in this process
_SOCKET_S: Final = 30.0  # a client answers pings
_PING_S: Final = 10.0
_HEAR_S: Final = 1.0
_READ_BYTES: Final = 64 << 10
_VERSION: Final = "13"
_HEAD: Final = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n"
)
_UNOPENED: Final = "no worker of the job's host has opened it: does one run there?"
_SILENT: Final = "its worker is not there any more"
_GONE: Final = "whoever opened it has gone"

_places = threading.BoundedSemaphore(_MOST)


class _Size(msgspec.Struct, frozen=True):
    """A terminal's."""

    rows: int
    columns: int


_sizes: Final = msgspec.json.Decoder(_Size)


def answer_of(headers: Any) -> bytes:
    """The head that accepts a request for a WebSocket. Raises InvalidRequestError for one that is none."""
    if headers.get("Upgrade", "").lower() != "websocket" or headers.get("Sec-WebSocket-Version") != _VERSION:
        raise InvalidRequestError(
            "this is no request for a WebSocket",
            hint="`shiplap runs shell` sends one; does a proxy pass it on?",
        )
    try:
        return _HEAD.format(accepted(headers.get("Sec-WebSocket-Key", ""))).encode()
    except WebSocketError as error:
        raise InvalidRequestError(error.message) from error


def taken(environ: Any) -> socket.socket:
    """The connection of a request, taken from gunicorn. What is answered to the request goes nowhere.

    Raises InvalidRequestError where there is none to take.
    """
    theirs = environ.get("gunicorn.socket")
    if theirs is None or isinstance(theirs, ssl.SSLSocket):
        raise InvalidRequestError("this server cannot hand a connection over to a shell")
    mine = taken_over(theirs)
    mine.settimeout(_SOCKET_S)
    return mine


class ShellStream:
    """One terminal, until its shell or its person has gone.

    why_over: why it has to end, for people; empty: it may go on. Asked now and then.
    """

    def __init__(self, shells: Shells, pipes: ShellPipes, shell: int, why_over: Callable[[], str]) -> None:
        self._shells = shells
        self._shell = shell
        self._end: PipeEnd = pipes.end(shell, "terminal")
        self._why_over = why_over
        self._sending = threading.Lock()
        self._has_gone = threading.Event()
        self._has_ended = False
        self._socket: socket.socket | None = None

    def serve(self, environ: Any, head: bytes) -> None:
        """Take the request's connection over, and serve it in threads. Raises UnavailableError, InvalidRequestError."""
        if not _places.acquire(blocking=False):
            raise UnavailableError(f"{_MOST} shells are open, as many as there may be", hint="try again later")
        try:
            self._socket = taken(environ)
            threading.Thread(target=self._run, args=(head,), name=f"shell {self._shell}", daemon=True).start()
        except BaseException:
            _places.release()
            raise

    def _run(self, head: bytes) -> None:
        assert self._socket is not None
        with self._socket as connection:
            try:
                connection.sendall(head)
                reading = threading.Thread(target=self._read, name=f"terminal of shell {self._shell}", daemon=True)
                reading.start()
                self._show()
            except OSError:  # the person has gone
                self._has_gone.set()
            except PipelineError as error:
                self._finish(None, error.message)
            finally:
                self._leave()
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                _places.release()

    def _show(self) -> None:
        """Pass on what the shell shows, until it has ended."""
        ticked = pinged = time.monotonic()
        is_open = False
        while not self._has_gone.is_set():
            for said in self._end.hear(_HEAR_S):
                match said.kind:
                    case "data":
                        self._send(frame("binary", said.data, is_masked=False))
                    case "opened":
                        is_open = True
                        self._send(frame("text", b'{"opened":true}', is_masked=False))
                    case "ended":
                        self._has_ended = True
                        self._close(said.data)
                        return
            now = time.monotonic()
            if now - ticked >= TICK_S:
                ticked = now
                self._end.say("tick")
            if now - pinged >= _PING_S:
                pinged = now
                self._send(frame("ping", b"", is_masked=False))
                if why := self._why_over():
                    self._finish(None, why)
                    return
            if self._end.is_silent():
                self._finish(None, _SILENT if is_open else _UNOPENED)
                return

    def _read(self) -> None:
        """A thread: pass on what the terminal says."""
        assert self._socket is not None
        reader = Reader(is_server=True)
        try:
            while not self._has_gone.is_set():
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    break
                for message in reader.feed(data):
                    if not self._hear(message):
                        return
        except (OSError, WebSocketError, PipelineError):
            pass
        finally:
            self._has_gone.set()

    def _hear(self, message: Message) -> bool:
        """Returns whether more is to come."""
        match message.kind:
            case "binary":
                for start in range(0, len(message.data), PIECE_BYTES):
                    piece = message.data[start : start + PIECE_BYTES]
                    if not self._end.say("data", piece, gives_up=self._has_gone.is_set):
                        return False
            case "text":
                try:
                    size = _sizes.decode(message.data)
                except msgspec.DecodeError as error:
                    raise WebSocketError("a text message that is no size") from error
                return self._end.say("size", b"%d %d" % (size.rows, size.columns), gives_up=self._has_gone.is_set)
            case "ping":
                self._send(frame("pong", message.data, is_masked=False))
            case "close":
                return False
        return True

    def _finish(self, exit_code: int | None, reason: str) -> None:
        self._close(msgspec.json.encode({"exit_code": exit_code, "reason": reason}))
        with contextlib.suppress(PipelineError):
            self._shells.end(self._shell, exit_code, reason)

    def _close(self, told: bytes) -> None:
        with contextlib.suppress(OSError):
            self._send(frame("text", told, is_masked=False) + frame("close", b"", is_masked=False))

    def _leave(self) -> None:
        """Tell the shell that nobody is there any more, by its row, too: it may not read what else is said."""
        self._has_gone.set()
        with contextlib.suppress(PipelineError):
            self._end.say("ended")
        if not self._has_ended:
            with contextlib.suppress(PipelineError):
                self._shells.end(self._shell, None, _GONE)

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        with self._sending:
            self._socket.sendall(data)
