"""The terminals of people who have a shell: a WebSocket each, passed on to the shell's other end and back.

A shell in a job is at the other end of streams in Redis; one in an engine's container, of a connection to the engine.

The connection is taken from gunicorn, which goes on after the request as after any other: it writes an answer and
closes its socket. So the connection is duplicated, and a dead socket is put in the place of gunicorn's. Two threads of
its own serve it then, and none of those that answer requests.

Binary messages are what is typed, and what is shown. Text messages are JSON: ``{"rows": 24, "columns": 80}`` of the
terminal; ``{"opened": true}`` and ``{"exit_code": 0, "reason": ""}`` of the shell, the last one before the end. A
page's terminal draws slowly, and its browser takes everything at once: so it says how many bytes it has drawn,
``{"shown": 65536}``, and no more than a mebibyte is under way.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from core.errors import ShiplapError, WebSocketError
from core.takenover import taken_over
from core.websocket import Message, Reader, accepted, frame
from pipelines.runs.shellpipes import PIECE_BYTES, TICK_S, Kind, Said, ShellPipes
from pipelines.runs.shells import Shells
from web.errors import InvalidRequestError, UnavailableError

PROTOCOL: Final = "shiplap-terminal"
"""What a page's terminal speaks; beside it, it names its session's token."""

_MOST: Final = 32  # terminals in this process
_SOCKET_S: Final = 30.0  # a client answers pings
_PING_S: Final = 10.0
_HEAR_S: Final = 1.0
_READ_BYTES: Final = 64 << 10
_VERSION: Final = "13"
_HEAD: Final = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: {}\r\n{}\r\n"
)
_OF_A_PAGE: Final = f"Sec-WebSocket-Protocol: {PROTOCOL}\r\n"
_MOST_UNSHOWN: Final = 1 << 20
_REST_S: Final = 0.02
_UNOPENED: Final = "no worker of the job's host has opened it: does one run there?"
_SILENT: Final = "its worker is not there any more"
_GONE: Final = "whoever opened it has gone"

_places = threading.BoundedSemaphore(_MOST)


class _Told(msgspec.Struct, frozen=True):
    """By a terminal: its size, or how many bytes it has drawn so far."""

    rows: int = 0
    columns: int = 0
    shown: int = -1


_told: Final = msgspec.json.Decoder(_Told)


class FarEnd(Protocol):
    """Where a shell is. One thread hears while others say. Its methods raise ShiplapErrors."""

    def hear(self, wait_s: float) -> Sequence[Said]:
        """What the shell has said since; waits at most that long. The last is ``ended``, with JSON for the terminal."""

    def say(self, kind: Kind, data: bytes = b"", *, gives_up: Callable[[], bool] = lambda: False) -> bool:
        """Say something to the shell; False: it was given up. ``ended``: nobody is there any more."""

    def is_silent(self) -> bool:
        """Whether nothing was heard for so long that nobody is there any more."""


def answer_of(headers: Any) -> bytes:
    """The head that accepts a request for a WebSocket. Raises InvalidRequestError for one that is none."""
    if headers.get("Upgrade", "").lower() != "websocket" or headers.get("Sec-WebSocket-Version") != _VERSION:
        raise InvalidRequestError(
            "this is no request for a WebSocket",
            hint="`shiplap runs shell` sends one; does a proxy pass it on?",
        )
    try:
        more = _OF_A_PAGE if is_of_a_page(headers) else ""
        return _HEAD.format(accepted(headers.get("Sec-WebSocket-Key", "")), more).encode()
    except WebSocketError as error:
        raise InvalidRequestError(error.message) from error


def is_of_a_page(headers: Any) -> bool:
    """Whether the terminal is a page's, which speaks ``PROTOCOL``."""
    return PROTOCOL in (each.strip() for each in headers.get("Sec-WebSocket-Protocol", "").split(","))


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


class TerminalStream:
    """One terminal, until its shell or its person has gone.

    name: of its threads. note: gets the exit code and the reason when it ends otherwise than by what the shell said.
    why_over: why it has to end, for people; empty: it may go on. Asked now and then.
    is_paced: it says what it has drawn, as a page's does.
    """

    def __init__(
        self,
        name: str,
        end: FarEnd,
        note: Callable[[int | None, str], None],
        why_over: Callable[[], str],
        *,
        is_paced: bool = False,
    ) -> None:
        self._name = name
        self._end = end
        self._note = note
        self._why_over = why_over
        self._is_paced = is_paced
        self._sent = self._shown = 0
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
            threading.Thread(target=self._run, args=(head,), name=self._name, daemon=True).start()
        except BaseException:
            _places.release()
            raise

    def _run(self, head: bytes) -> None:
        assert self._socket is not None
        with self._socket as connection:
            try:
                connection.sendall(head)
                reading = threading.Thread(target=self._read, name=f"terminal of {self._name}", daemon=True)
                reading.start()
                self._show()
            except OSError:  # the person has gone
                self._has_gone.set()
            except ShiplapError as error:
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
            is_behind = self._is_paced and self._sent - self._shown > _MOST_UNSHOWN
            if is_behind:
                self._has_gone.wait(_REST_S)
            for said in () if is_behind else self._end.hear(_HEAR_S):
                match said.kind:
                    case "data":
                        self._sent += len(said.data)
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
            if not is_behind and self._end.is_silent():
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
        except (OSError, ShiplapError):
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
                    told = _told.decode(message.data)
                except msgspec.DecodeError as error:
                    raise WebSocketError("a text message that says nothing known") from error
                if told.shown >= 0:
                    self._shown = min(told.shown, self._sent)
                    return True
                return self._end.say("size", b"%d %d" % (told.rows, told.columns), gives_up=self._has_gone.is_set)
            case "ping":
                self._send(frame("pong", message.data, is_masked=False))
            case "close":
                return False
        return True

    def _finish(self, exit_code: int | None, reason: str) -> None:
        self._close(msgspec.json.encode({"exit_code": exit_code, "reason": reason}))
        self._has_ended = True
        with contextlib.suppress(ShiplapError):
            self._note(exit_code, reason)

    def _close(self, told: bytes) -> None:
        with contextlib.suppress(OSError):
            self._send(frame("text", told, is_masked=False) + frame("close", b"", is_masked=False))

    def _leave(self) -> None:
        """Tell the shell that nobody is there any more, by its row, too: it may not read what else is said."""
        self._has_gone.set()
        with contextlib.suppress(ShiplapError):
            self._end.say("ended")
        if not self._has_ended:
            with contextlib.suppress(ShiplapError):
                self._note(None, _GONE)

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        with self._sending:
            self._socket.sendall(data)


class ShellStream(TerminalStream):
    """The terminal of a shell in a job."""

    def __init__(
        self,
        shells: Shells,
        pipes: ShellPipes,
        shell: int,
        why_over: Callable[[], str],
        *,
        is_paced: bool = False,
    ) -> None:
        def note(exit_code: int | None, reason: str) -> None:
            shells.end(shell, exit_code, reason)

        super().__init__(f"shell {shell}", pipes.end(shell, "terminal"), note, why_over, is_paced=is_paced)
