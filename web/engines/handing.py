"""Connections of docker's clients at the service's own port, handed to the gate of an engine, which asks for a token.

The gate is root's and knows who may; this process decides nothing, and has no more rights by it: all it can do is bring
the gate a connection, on which the client shows its token. See ``core.passing``.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
from pathlib import Path
from typing import Final

from core import passing
from core.refusing import refusal

_OURS: Final = re.compile(rb"[A-Z]{1,20} /(?:engine/|_ping[ ?]|v1\.[0-9]{1,3}/|(?:grpc|session)[ ?][^\r\n]*\r\n)")
"""What docker's clients ask for. Nothing else of this service has such a path."""

_UPGRADED: Final = re.compile(rb"\r\nupgrade:[ \t]*h2c\r\n", re.IGNORECASE)
_WANT_UPGRADE: Final = re.compile(rb"[A-Z]{1,20} /(?:grpc|session)[ ?]")
_PATIENCE_S: Final = 5.0
_MOST: Final = 64
_BUSY: Final = 503, "the engine does not take connections now: try again"
_PLAIN: Final = 403, "without TLS this service's engine is for its own host alone: use its https:// address"
_log: Final = logging.getLogger(__name__)


class Handing:
    """Hands connections over. door: the gate's socket."""

    def __init__(self, door: Path) -> None:
        self._door = door
        self._room = threading.BoundedSemaphore(_MOST)

    def hand(self, sock: socket.socket, received: bytes | bytearray) -> None:
        """Hand a connection over, or refuse it. The caller then closes its socket. Never waits.

        received: what was read of it, the head of a request at least.
        """
        if self._room.acquire(blocking=False):
            try:
                copy = sock.dup()
                threading.Thread(target=self._give, args=(copy, bytes(received)), name="handing", daemon=True).start()
                return
            except (OSError, RuntimeError) as error:  # no more descriptors, or threads
                self._room.release()
                _log.warning("a client of the engine's was not handed over: %s", error)
        _refuse(sock, *_BUSY)

    def _give(self, sock: socket.socket, received: bytes) -> None:
        with sock:
            try:
                with socket.socket(socket.AF_UNIX) as gate:
                    gate.settimeout(_PATIENCE_S)
                    gate.connect(str(self._door))
                    passing.give(gate, sock, received)
            except OSError as error:
                _log.warning("a client of the engine's was not handed over: %s", error)
                with contextlib.suppress(OSError):
                    sock.settimeout(_PATIENCE_S)
                _refuse(sock, *_BUSY)
            finally:
                self._room.release()


def is_dockers(received: bytes | bytearray) -> bool:
    """Whether a request is of a client of the Docker Engine API. received: its head at least."""
    if _OURS.match(received) is None:
        return False
    return _WANT_UPGRADE.match(received) is None or _UPGRADED.search(received) is not None


def refuse_plain(sock: socket.socket) -> None:
    """Refuse a connection that came over a network without TLS: whoever is on the way has read its token."""
    _refuse(sock, *_PLAIN)


def _refuse(sock: socket.socket, status: int, message: str) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(refusal(status, message))  # a socket that does not block has the room
