"""Connections of docker's clients at the service's own port, handed to the gate of an engine, which asks for a token.

The gate is root's and knows who may; this process decides nothing, and has no more rights by it: all it can do is bring
the gate a connection, on which the client shows its token. The descriptor goes over a unix socket with what was read of
the connection, and an end.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
from pathlib import Path
from typing import Final

_OURS: Final = re.compile(rb"[A-Z]{1,20} /(?:engine/|_ping[ ?]|v1\.[0-9]{1,3}/|(?:grpc|session)[ ?][^\r\n]*\r\n)")
"""What docker's clients ask for. Nothing else of this service has such a path."""

_UPGRADED: Final = re.compile(rb"\r\nupgrade:[ \t]*h2c\r\n", re.IGNORECASE)
_WANT_UPGRADE: Final = re.compile(rb"[A-Z]{1,20} /(?:grpc|session)[ ?]")
_PATIENCE_S: Final = 5.0
_MOST: Final = 64
_BUSY: Final = b'{"message": "the engine does not take connections now: try again"}\n'
_log: Final = logging.getLogger(__name__)


class Handing:
    """Hands connections over. door: the gate's socket."""

    def __init__(self, door: Path) -> None:
        self._door = door
        self._room = threading.BoundedSemaphore(_MOST)

    def took(self, sock: socket.socket, received: bytes | bytearray) -> bool:
        """Whether the connection is the gate's from now on; if so, the caller's socket may be closed. Never waits.

        received: what was read of it, the head of a request at least.
        """
        if not is_dockers(received):
            return False
        if not self._room.acquire(blocking=False):
            return False  # it gets 404
        try:
            copy = sock.dup()
            threading.Thread(target=self._give, args=(copy, bytes(received)), name="handing", daemon=True).start()
        except (OSError, RuntimeError) as error:  # no more descriptors, or threads
            self._room.release()
            _log.warning("a client of the engine's was not handed over: %s", error)
        return True

    def _give(self, sock: socket.socket, received: bytes) -> None:
        with sock:
            try:
                with socket.socket(socket.AF_UNIX) as gate:
                    gate.settimeout(_PATIENCE_S)
                    gate.connect(str(self._door))
                    socket.send_fds(gate, [received[:1]], [sock.fileno()])
                    gate.sendall(received[1:])
            except OSError as error:
                _log.warning("a client of the engine's was not handed over: %s", error)
                head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(_BUSY)}\r\nConnection: close\r\n"
                with contextlib.suppress(OSError):
                    sock.settimeout(_PATIENCE_S)
                    sock.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + _BUSY)
            finally:
                self._room.release()


def is_dockers(received: bytes | bytearray) -> bool:
    """Whether a request is of a client of the Docker Engine API. received: its head at least."""
    if _OURS.match(received) is None:
        return False
    return _WANT_UPGRADE.match(received) is None or _UPGRADED.search(received) is not None
