"""Gunicorn's worker, which tells TLS where it is not spoken.

Clients that may use a registry without TLS try TLS first, ours and docker's among them, at every command. Gunicorn
would take the handshake for a request line, which holds a bare LF as often as not, and log a complaint each time. The
answer is the one that Go's servers give, for clients know it: they go on without TLS at once, or say that it is
missing; when they are merely hung up on, some try again and again (crane), and none can tell why.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

_HANDSHAKE: Final = b"\x16"  # the content type of a TLS record with a ClientHello; no method begins with it
_HEAD_BYTES: Final = 5  # of a TLS record: type, version, length
_WAIT_S: Final = 0.5  # a client that tries TLS says so at once
_SEGMENTS: Final = 8  # that a ClientHello may come in
_ANSWER: Final = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This port speaks plain HTTP, and a TLS handshake came.\n"
)


class PlainWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A gthread worker that answers TLS at a plain port in plain HTTP, without a word in the log."""

    def handle(self, conn: Any) -> Any:
        """A request on the connection. Runs in one of the threads."""
        fresh = not conn.initialized and not self.cfg.is_ssl
        if fresh and (conn.data_ready or conn.wait_for_data(_WAIT_S)) and (size := _hello_bytes(conn.sock)):
            _answer(conn.sock, size)
            return False
        return super().handle(conn)


def _hello_bytes(peer: socket.socket) -> int:
    """The length of the TLS record that a connection begins with; 0 when it begins with something else."""
    try:
        head = peer.recv(_HEAD_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return 0  # gone, or nothing there after all: whoever reads it will see
    return _HEAD_BYTES + int.from_bytes(head[3:], "big") if head.startswith(_HANDSHAKE) else 0


def _answer(peer: socket.socket, size: int) -> None:
    """size: of the ClientHello. It is read first: what nobody reads resets the connection, and the answer is lost."""
    peer.settimeout(_WAIT_S)
    with contextlib.suppress(OSError):
        for _ in range(_SEGMENTS):
            size -= len(peer.recv(size))
            if not size:
                break
    with contextlib.suppress(OSError):
        peer.sendall(_ANSWER)
