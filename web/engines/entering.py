"""A command in a container, as a terminal's other end: begun by the engine, and a connection to it from then on.

The engine is asked to hang up when the connection ends: whatever becomes of this process, or of the page, the command
gets SIGHUP, and no shell is left behind.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from core.errors import ShiplapError
from pipelines.runs.shellpipes import PIECE_BYTES, Kind, Said
from web.engines.client import EngineClient
from web.errors import UnavailableError

SHELL: Final = ("/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh")
"""bash where there is one."""

_HANG_UP: Final = "Shiplap-Hang-Up: 1\r\n"
_MOST_ROWS: Final = 1000
_PAUSE_S: Final = 0.1
_ENDED_S: Final = 5.0


class Entered:
    """One command in one container. container: its ID. It begins when it is first heard.

    rows, columns: of its terminal.
    """

    def __init__(self, client: EngineClient, container: str, rows: int, columns: int) -> None:
        self._client = client
        self._container = container
        self._size = (_bounded(rows), _bounded(columns))
        self._lock = threading.Lock()
        self._exec = ""
        self._socket: socket.socket | None = None
        self._has_gone = False

    def hear(self, wait_s: float) -> Sequence[Said]:
        """What it has written since. Raises what the engine says against it."""
        sock = self._socket
        if sock is None:
            return self._begin()
        if not _is_ready(sock, select.POLLIN, wait_s):
            return ()
        try:
            data = sock.recv(PIECE_BYTES)
        except OSError:
            data = b""
        return (Said("data", data),) if data else (Said("ended", self._end()),)

    def say(self, kind: Kind, data: bytes = b"", *, gives_up: Callable[[], bool] = lambda: False) -> bool:
        """Type something, or tell a size. Raises what the engine says against it."""
        match kind:
            case "data":
                return self._type(data, gives_up)
            case "size":
                rows, columns = (_bounded(int(each)) for each in data.split())
                self._resize(rows, columns)
            case "ended":
                self._leave()
        return True

    def is_silent(self) -> bool:
        """Never: a connection that breaks says so."""
        return False

    def _begin(self) -> Sequence[Said]:
        body = {
            "AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": True, "Cmd": list(SHELL),
            "Env": ["TERM=xterm-256color"], "ConsoleSize": list(self._size),
        }  # fmt: skip
        made: Any = self._client.post(f"/containers/{self._container}/exec", body)
        identity = made.get("Id") if isinstance(made, dict) else None
        if not (isinstance(identity, str) and identity.isalnum()):
            raise UnavailableError("the engine's answer is none that is known")
        sock, early = self._client.taken(f"/exec/{identity}/start", {"Detach": False, "Tty": True}, _HANG_UP)
        with self._lock:
            self._exec, self._socket = identity, sock
            has_gone = self._has_gone
        if has_gone:  # while it was begun
            self._leave()
        told = [Said("opened")]
        return [*told, Said("data", early)] if early else told

    def _type(self, data: bytes, gives_up: Callable[[], bool]) -> bool:
        sock = self._socket
        while sock is None:  # somebody types before it has begun
            if gives_up():
                return False
            time.sleep(_PAUSE_S)
            sock = self._socket
        left = memoryview(data)
        while left:
            if gives_up():
                return False
            if _is_ready(sock, select.POLLOUT, _PAUSE_S):
                try:
                    left = left[sock.send(left, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise UnavailableError("the shell has ended") from error
        return True

    def _resize(self, rows: int, columns: int) -> None:
        with self._lock:
            self._size, identity = (rows, columns), self._exec
        if identity:
            with contextlib.suppress(ShiplapError):  # a size is no reason to end, also of a command that has just ended
                self._client.post(f"/exec/{identity}/resize", h=str(rows), w=str(columns))

    def _end(self) -> bytes:
        """How it ended, for the terminal."""
        code, reason = None, "the engine has gone"
        until = time.monotonic() + _ENDED_S
        while time.monotonic() < until:
            try:
                found = self._client.get(f"/exec/{self._exec}/json")
            except UnavailableError:
                break
            code = found.get("ExitCode")
            if not found.get("Running") and code is not None:
                reason = ""
                break
            time.sleep(_PAUSE_S)
        return msgspec.json.encode({"exit_code": code, "reason": reason})

    def _leave(self) -> None:
        """Cut the line: the engine hangs up."""
        with self._lock:
            self._has_gone = True
            sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _is_ready(sock: socket.socket, event: int, wait_s: float) -> bool:
    """Whether something can be read or sent, or the other end has gone. Of any descriptor: a process has many."""
    poller = select.poll()
    poller.register(sock, event)
    return bool(poller.poll(1000 * wait_s))


def _bounded(count: int) -> int:
    return max(1, min(count, _MOST_ROWS))
