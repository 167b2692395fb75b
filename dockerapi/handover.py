"""A client's connection, and how a request takes it over: to hand it to a keeper, or to the pump.

gunicorn goes on after the request as after any other: it writes a head and closes its socket. So the connection is
duplicated, and a dead socket is put in the place of gunicorn's: what it writes goes nowhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Self

import flask

from core.takenover import taken_over
from dockerapi.errors import bad
from dockerapi.versions import NEWEST

_CREDENTIALS: Final = struct.Struct("=iII")
_NUMBER: Final = struct.Struct("=i")
_HEAD_READ_S: Final = 0.5
_LOOK_EACH_S: Final = 0.0002
_UPGRADE: Final = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: %b\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n%b\r\n"
_SWITCHED: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
_PLAIN: Final = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nConnection: close\r\n%b\r\n"
_CHUNKED: Final = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n%b\r\n"
_VERSION: Final = f"Api-Version: {NEWEST}\r\nOstype: linux\r\n".encode()

_under_way = threading.local()


class Peer(NamedTuple):
    """Who is at the other end of a unix socket: IDs as this process's user namespace has them."""

    pid: int
    uid: int
    gid: int


@contextlib.contextmanager
def serving(connection: Any) -> Iterator[None]:
    """Within, in this thread: ``connection``, gunicorn's, is the one whose request is served."""
    _under_way.connection = connection
    _under_way.peer = peer_of(connection.sock)
    _under_way.entrance = connection.sock.getsockname()
    try:
        yield
    finally:
        del _under_way.connection, _under_way.peer, _under_way.entrance


def peer() -> Peer:
    """Who sent the request that is served, also when its connection has been taken over."""
    found: Peer = _under_way.peer
    return found


def entrance() -> str:
    """The address of the socket by which the request that is served came in."""
    found = _under_way.entrance
    return found if isinstance(found, str) else ""


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end of a unix socket, as they were when they connected."""
    return Peer._make(_CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))


def has_gone() -> bool:
    """Whether the client of the request that is served has closed its connection."""
    ended = select.poll()
    ended.register(_under_way.connection.sock, 0)  # what there is always: POLLHUP, POLLERR
    return bool(ended.poll(0))


class Taken:
    """A connection that was taken over. early: what the client had sent beyond its request.

    At the end of its ``with`` it is let go here, and goes on where another process has it. An error ends it.
    """

    def __init__(self, sock: socket.socket, early: bytes) -> None:
        self.socket = sock
        self.early = early

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.end()

    def moved(self) -> Taken:
        """The same connection for a new owner. This one has none any more."""
        return Taken(socket.socket(fileno=self.socket.detach()), self.early)

    def upgrade(self, content_type: str) -> None:
        """Begin a stream in both directions. A client that did not ask for an upgrade gets a plain head.

        The client has read the head, unless it takes its time. docker's SDK for Python reads the head through a buffer,
        and the stream past it: what comes together with the head, it drops.
        """
        self._begin(_UPGRADE if flask.request.headers.get("Upgrade") else _PLAIN, content_type)
        end = time.monotonic() + _HEAD_READ_S
        while _is_unread(self.socket) and time.monotonic() < end:
            time.sleep(_LOOK_EACH_S)

    def switch(self, protocol: str) -> socket.socket:
        """Go over to another protocol. The connection, for a new owner; ``early`` is its first data."""
        self.socket.sendall(_SWITCHED % protocol.encode("ascii"))
        return socket.socket(fileno=self.socket.detach())

    def chunked(self, content_type: str) -> None:
        """Begin a body in chunks."""
        self._begin(_CHUNKED, content_type)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def send_chunk(self, data: bytes) -> None:
        """Send a chunk of the body."""
        if data:
            self.socket.sendall(chunk(data))

    def end_chunks(self) -> None:
        """End the body."""
        self.socket.sendall(b"0\r\n\r\n")

    def close(self) -> None:
        """Let go of it."""
        self.socket.close()

    def end(self) -> None:
        """End the connection, also where another process has it: nothing more is to come."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        self.socket.close()

    def _begin(self, head: bytes, content_type: str) -> None:
        self.socket.sendall(head % (content_type.encode("ascii"), _VERSION))


def take() -> Taken:
    """Take over the connection of the request that is served. Its body is read to its end first.

    What the view returns afterwards goes nowhere.
    """
    connection = _under_way.connection
    rest = flask.request.stream.read(1 << 20)
    if rest:
        raise bad("this request has no body")
    early: bytes = connection.parser.unreader.take_buffered()
    return Taken(replaced(connection.sock), early)


def replaced(sock: socket.socket) -> socket.socket:
    """The connection of gunicorn's socket, which has a dead one from now on. It blocks."""
    mine = taken_over(sock)
    mine.setblocking(True)
    return mine


def _is_unread(sock: socket.socket) -> bool:
    """Whether something that was sent is still in the socket at the other end."""
    return bool(_NUMBER.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_NUMBER.size)))[0])


def gone() -> flask.Response:
    """What a view returns when the connection is in other hands."""
    return flask.Response(status=200)


def chunk(data: bytes) -> bytes:
    """A chunk of HTTP's."""
    return b"%x\r\n%b\r\n" % (len(data), data)
