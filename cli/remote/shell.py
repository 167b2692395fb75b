"""A shell in a job at a server, on this process's terminal."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from cli.attach import raw_mode, window_size
from cli.guarding import say
from cli.remote.errors import RemoteError, UnreachableServerError
from cli.remote.http import Client
from cli.remote.jobs import job_path
from cli.remote.wording import printable
from core.errors import WebSocketError
from core.websocket import Message, Reader, accepted, frame, new_key

_STDIN: Final = 0
_STDOUT: Final = 1
_CHUNK: Final = 16 << 10
_MOST_UNSENT: Final = 64 << 10
_SILENCE_S: Final = 45.0  # the server pings
_POLL_S: Final = 5.0
_END_OF_INPUT: Final = b"\x04"  # Ctrl-D: what a terminal makes of the end of a pipe
_NO_END: Final = "the connection to the server broke before the shell had ended"
_WOULD_WAIT: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def enter(client: Client, run: int, job: str, args: tuple[str, ...]) -> int:
    """Open a shell, and return its exit code; 1 where it did not end by itself. Raises ServerErrors, RemoteErrors."""
    asked: dict[str, Any] = {"term": os.environ.get("TERM") or "xterm"}
    if args:
        asked["command"] = list(args)
    size = window_size(_STDIN)
    if size:
        asked["rows"], asked["columns"] = min(size[0], 1000), min(size[1], 1000)
    shell = client.call("POST", f"{job_path(run, job)}/shells", asked)
    key = new_key()
    headers = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
    sock, early, fields = client.upgrade(f"/runs/{run}/shells/{shell['id']}/terminal", headers)
    with sock:
        if fields.get("sec-websocket-accept") != accepted(key):
            raise RemoteError("what answers there is no WebSocket", hint="is that a Shiplap service?")
        told = Terminal(sock).run(early)
    if told.get("exit_code") is not None:
        return int(told["exit_code"])
    say(f"error: {printable(str(told.get('reason') or _NO_END))}")
    return 1


class Terminal:
    """This process's terminal, or its pipes, at the other end of a WebSocket. One thread does it all."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader = Reader(is_server=False)
        self._unsent = b""
        self._is_raw = os.isatty(_STDIN)
        self._has_input = True
        self._told: dict[str, Any] | None = None
        self._heard_at = time.monotonic()
        self._is_unread = False

    def run(self, early: bytes) -> dict[str, Any]:
        """Returns what the server said of the shell's end; nothing where it did not. early: what has come already.

        Raises BrokenPipeError when nobody reads what is shown, and UnreachableServerError.
        """
        self._socket.setblocking(False)
        with contextlib.ExitStack() as stack:
            woken = stack.enter_context(_resized()) if self._is_raw else None
            if self._is_raw:
                stack.enter_context(raw_mode(_STDIN))
            try:
                self._feed(early)
                while self._told is None and self._turn(woken):
                    pass
            except (OSError, WebSocketError) as error:
                if self._is_unread:
                    raise BrokenPipeError from error
                if self._told is None:
                    raise UnreachableServerError(f"{_NO_END}: {error}") from error
        return self._told or {}

    def _turn(self, woken: int | None) -> bool:
        """Pass on what there is. False: the server has gone."""
        reads: list[Any] = [self._socket, *([woken] if woken is not None else [])]
        if self._has_input and len(self._unsent) < _MOST_UNSENT:
            reads.append(_STDIN)
        pending = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
        ready, writable, _ = select.select(reads, [self._socket] if self._unsent else [], [], 0 if pending else _POLL_S)
        if _STDIN in ready:
            self._type()
        if woken is not None and woken in ready:
            os.read(woken, 512)
            size = window_size(_STDIN)
            if size:
                told = json.dumps({"rows": size[0], "columns": size[1]}).encode()
                self._unsent += frame("text", told, is_masked=True)
        if writable:
            with contextlib.suppress(*_WOULD_WAIT):
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        if self._socket in ready or pending:
            try:
                data = self._socket.recv(_CHUNK)
            except _WOULD_WAIT:
                return True
            if not data:
                return False
            self._heard_at = time.monotonic()
            self._feed(data)
        return time.monotonic() - self._heard_at < _SILENCE_S

    def _type(self) -> None:
        data = os.read(_STDIN, _CHUNK)
        self._has_input = bool(data)
        self._unsent += frame("binary", data or _END_OF_INPUT, is_masked=True)

    def _feed(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            self._hear(message)

    def _hear(self, message: Message) -> None:
        match message.kind:
            case "binary":
                view = memoryview(message.data)
                try:
                    while view:
                        view = view[os.write(_STDOUT, view) :]
                except BrokenPipeError:
                    self._is_unread = True
                    raise
            case "text":
                try:
                    said = json.loads(message.data)
                except ValueError as error:
                    raise WebSocketError("a text message that is no JSON") from error
                if isinstance(said, dict) and "exit_code" in said:
                    self._told = said
            case "ping":
                self._unsent += frame("pong", message.data, is_masked=True)
            case "close":
                self._told = self._told or {}


@contextlib.contextmanager
def _resized() -> Iterator[int]:
    """A descriptor that is readable once the terminal has another size."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def note(number: int, frame: FrameType | None) -> None:
        del number, frame
        with contextlib.suppress(BlockingIOError):
            os.write(write, b"!")

    before = signal.signal(signal.SIGWINCH, note)
    try:
        yield read
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(read)
        os.close(write)
