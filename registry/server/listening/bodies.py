"""Request bodies at a least rate. They may have any length, but who is too slow takes a thread from others."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Final

from gunicorn.http.unreader import SocketUnreader  # type: ignore[import-untyped]

LEAST_RATE: Final = 1024  # bytes a second
PATIENCE_S: Final = 30.0


class PacedUnreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """Reads from a connection with patience: waiting uses it up, and bytes that come add to it.

    A client that keeps to LEAST_RATE is never cut; one that stands still is, after PATIENCE_S. To the application a
    connection that was cut is one whose client has gone. Only waiting counts, not what the application does between.

    cut: patience is at its end, nothing more is read.
    waiting: a thread waits for the client just now.
    """

    def __init__(self, peer: socket.socket) -> None:
        super().__init__(peer)
        self.cut = False
        self.waiting = False
        self._patience_s = PATIENCE_S
        self._lingers = True

    def begin(self, data: bytes) -> None:
        """Begin a new request; ``data`` of it has come already."""
        self._patience_s = PATIENCE_S
        self._lingers = True
        self.unread(data)

    def hurry(self) -> None:
        """From here on take only what is there; the rest counts as cut."""
        self._lingers = False

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next bytes; none when the client has gone or was cut."""
        if self.cut:
            return b""
        peer: Any = self.sock
        before = peer.gettimeout()
        allowed = self._patience_s if before is None else min(before, self._patience_s)
        began = time.monotonic()
        peer.settimeout(allowed if self._lingers else 0.0)
        self.waiting = True
        try:
            data: bytes = super().chunk(size_hint)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            data = b""
        finally:
            self.waiting = False
            peer.settimeout(before)
        waited = time.monotonic() - began
        self._patience_s = min(PATIENCE_S, self._patience_s - waited + len(data) / LEAST_RATE)
        self.cut = not data or self._patience_s <= 0
        return data
