"""Gunicorn's worker, deaf to TLS where it is not spoken.

Clients that may use a registry without TLS try TLS first, ours and docker's among them, at every command. Gunicorn
would take the handshake for a request line, which holds a bare LF as often as not, and log a complaint each time.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

_HANDSHAKE: Final = b"\x16"  # the content type of a TLS record with a ClientHello; no method begins with it
_WAIT_S: Final = 0.5  # a client that tries TLS says so at once


class PlainWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gthread worker that hangs up on TLS at a plain port, as the client expects, without a word in the log."""

    def handle(self, conn: Any) -> Any:
        """A request on the connection. Runs in one of the threads."""
        fresh = not conn.initialized and not self.cfg.is_ssl
        if fresh and (conn.data_ready or conn.wait_for_data(_WAIT_S)) and _begins_with_tls(conn.sock):
            return False
        return super().handle(conn)


def _begins_with_tls(peer: socket.socket) -> bool:
    try:
        return peer.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == _HANDSHAKE
    except OSError:
        return False  # gone, or nothing there after all: whoever reads it will see
