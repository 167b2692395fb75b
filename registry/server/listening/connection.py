"""One connection: what has come of its next request, and what the listener and the threads know of it."""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import ssl
import struct
import termios
from typing import Any, Final

from gunicorn import http  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn  # type: ignore[import-untyped]

from registry.server.listening.bodies import PacedUnreader
from registry.server.listening.heads import Head, find_head
from registry.server.listening.lobby import Stage

_PIECE_BYTES: Final = 16 << 10
_PIECES: Final = 16  # at once: others want to be read, too
_WOULD_WAIT: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_HANDSHAKE: Final = 0x16  # the content type of a TLS record with a ClientHello; no method begins with it
_RECORD_HEAD: Final = 5  # type, version, length
_TRANSFERRED: Final = struct.Struct("=120xQQ")  # of struct tcp_info: bytes_acked, bytes_received.  linux/tcp.h
_FAST: Final = 128 << 10  # bytes a second: who keeps to that holds nobody up, however long it takes
_UNKNOWN_S: Final = 1.0  # nobody can tell yet


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection, held by the listener or by one thread. While a thread has it, the listener may only call ``cut``.

    address: the client that it counts for, see ``lobby.site``; empty until a trusted proxy has named the client.
    events: what the selector waits for; 0 for nothing.
    head: of the request that comes.
    heavy: the request's body comes while a thread waits for it.
    started: when a thread was to begin with it.
    vouched: whoever sent the request was let in.
    was_cut: the listener ended it while a thread had it.
    gone: it is closed, and no longer counted.
    """

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any) -> None:
        super().__init__(cfg, sock, client, server)
        self.address = ""
        self.stage: Stage = "head"
        self.deadline = 0.0
        self.events = 0
        self.head: Head | None = None
        self.heavy = False
        self.started = 0.0
        self.vouched = False
        self.was_cut = False
        self.gone = False
        self._transferred = 0
        self.parser: Any = None
        self.received = bytearray()
        self._searched = 0

    @property
    def is_over_ip(self) -> bool:
        """Whether there is an address to count by."""
        return self.sock.family in (socket.AF_INET, socket.AF_INET6)

    def read(self) -> bool:
        """Take what has come, and wait for nothing. False: the client has gone. Raises OSError."""
        for _ in range(_PIECES):
            try:
                data = self.sock.recv(_PIECE_BYTES)
            except _WOULD_WAIT:
                return True
            if not data:
                return False
            self.received += data
        return True

    def look(self) -> Head | None:
        """The head of the request, once it is whole."""
        if self.head is None:
            self.head = find_head(self.received, self._searched)
            self._searched = len(self.received)
        return self.head

    def hello_bytes(self) -> int:
        """The length of the TLS record that the connection begins with, as far as one can tell; 0: it is none."""
        if self.cfg.is_ssl or self.initialized or not self.received or self.received[0] != _HANDSHAKE:
            return 0
        return _RECORD_HEAD + int.from_bytes(self.received[3:_RECORD_HEAD], "big")

    def hand_over(self, now: float) -> None:
        """Hand it to a thread: what has come is read before whatever follows."""
        if self.parser is None:
            self.parser = http.get_parser(self.cfg, self.sock, self.client)
            self.parser.unreader = PacedUnreader(self.sock)
            self.initialized = True
        self.parser.unreader.begin(bytes(self.received))
        self.received = bytearray()
        self._searched = 0
        self.head = None
        self.started = now
        self.vouched = False
        self._transferred = self._bytes_transferred()

    def take_back(self) -> None:
        """Take it back from a thread that has answered: what the thread read ahead is of the next request."""
        self.sock.setblocking(False)
        self.received = bytearray(self.parser.unreader.take_buffered())
        self.heavy = False

    def vouch(self) -> None:
        """See ``vouching``. Called by the thread that answers."""
        self.vouched = True

    def is_slow(self, now: float) -> bool:
        """Whether a thread waits for a client that nobody vouched for, and little comes or goes.

        While nobody can tell yet, that is assumed of a large body.
        """
        if self.vouched or self.was_cut or not self.is_over_ip:
            return False
        age = now - self.started
        if age < _UNKNOWN_S:
            return self.heavy
        waits = self.parser.unreader.waiting or self._has_unsent()
        return waits and self._bytes_transferred() - self._transferred < _FAST * age

    def _bytes_transferred(self) -> int:
        """In both directions, as far as the client has said that it got them."""
        try:
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TRANSFERRED.size)
        except OSError:
            return 0
        return sum(_TRANSFERRED.unpack(info)) if len(info) == _TRANSFERRED.size else 0

    def _has_unsent(self) -> bool:
        """Whether the client has not taken all that was sent."""
        queued = array.array("i", [0])
        with contextlib.suppress(OSError, ValueError):
            fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, queued)
        return queued[0] > 0

    def cut(self) -> None:
        """End it while a thread has it: to the thread the client has gone."""
        self.was_cut = True
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # TLS's own would change what the thread uses

    def finish_sending(self) -> bool:
        """Say that nothing follows. What the client still sends is read: it would lose the answer with a reset."""
        try:
            self.sock.setblocking(False)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def drop(self) -> None:
        """Close it at once."""
        self.gone = True
        with contextlib.suppress(OSError):
            self.sock.close()
