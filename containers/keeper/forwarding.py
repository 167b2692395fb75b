"""Questions that a container's name server passes on to the resolvers that the host has.

Each goes by a socket of its own, so by a random port, under a random number; only what the asked resolver itself says
to that very question is an answer. First UDP; a client who came by TCP is served by TCP. So many are under way at
once; who asks more learns at once that it failed.
"""

from __future__ import annotations

import _socket
import errno
import os

from containers.keeper import dnswire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from containers.keeper.dnswire import Query
    from containers.keeper.loop import Loop, Timer

MOST_UNDER_WAY = 64
_TIMEOUT_S = 2.5
_ROUNDS = 2
_MOST_BYTES = 65535
_PORT = 53


class Forwarder:
    """Asks resolvers.

    resolvers: their addresses as they are now; the first one is asked first.
    open_socket: makes a socket, of a family and kind, in the network namespace that reaches the resolvers.
    """

    def __init__(
        self,
        loop: Loop,
        resolvers: Callable[[], list[str]],
        open_socket: Callable[[int, int], _socket.socket],
        *,
        port: int = _PORT,
    ) -> None:
        self._loop = loop
        self._resolvers = resolvers
        self.open_socket = open_socket
        self.port = port
        self._under_way: set[_Asking] = set()

    def ask(self, message: bytes, query: Query, done: Callable[[bytes], None], *, by_tcp: bool = False) -> None:
        """Call ``done`` with the answer, once; one of failure when there is none to be had."""
        resolvers = self._resolvers() * _ROUNDS
        if not resolvers or len(self._under_way) >= MOST_UNDER_WAY:
            done(dnswire.failure(message, dnswire.SERVER_FAILURE))
            return
        asking = _Asking(self._loop, self, message, query, resolvers, done, _ByTcp if by_tcp else _ByUdp)
        self._under_way.add(asking)
        asking.next()

    def forget(self, asking: _Asking) -> None:
        """It has its answer."""
        self._under_way.discard(asking)

    def close(self) -> None:
        """Forget all questions; nobody is told."""
        for asking in list(self._under_way):
            asking.drop()
        self._under_way.clear()


class _Asking:
    """One question, asked of one resolver after the other."""

    def __init__(
        self,
        loop: Loop,
        forwarder: Forwarder,
        message: bytes,
        query: Query,
        resolvers: list[str],
        done: Callable[[bytes], None],
        way: type[_ByUdp | _ByTcp],
    ) -> None:
        self.loop = loop
        self.forwarder = forwarder
        self.query = query
        self.number = 0
        self._message = message
        self._left = resolvers
        self._done = done
        self._way = way
        self._attempt: _ByUdp | _ByTcp | None = None
        self._timer: Timer | None = None

    def next(self) -> None:
        """Ask the next resolver, or fail."""
        self.drop()
        while self._left:
            address = self._left.pop(0)
            self.number = int.from_bytes(os.urandom(2), "big")
            try:
                self._attempt = self._way(self, address, dnswire.renumbered(self._message, self.number))
            except OSError:
                continue  # no way there
            self._timer = self.loop.later(_TIMEOUT_S, self.next)
            return
        self._end(dnswire.failure(self._message, dnswire.SERVER_FAILURE))

    def received(self, message: bytes) -> bool:
        """Take an answer, if it is one."""
        if not dnswire.answers(message, self.number, self.query.question):
            return False
        self.drop()
        self._end(dnswire.renumbered(message, self.query.number))
        return True

    def drop(self) -> None:
        """End what is under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attempt is not None:
            self._attempt.close()
            self._attempt = None

    def _end(self, message: bytes) -> None:
        self.forwarder.forget(self)
        self._done(message)


class _ByUdp:
    """One resolver asked by one datagram. Raises OSError."""

    def __init__(self, asking: _Asking, address: str, message: bytes) -> None:
        self._asking = asking
        self._socket = asking.forwarder.open_socket(_version(address), _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK)
        try:
            self._socket.connect((address, asking.forwarder.port))
            self._socket.send(message)
        except OSError:
            self._socket.close()
            raise
        asking.loop.watch(self._socket.fileno(), self._on_answer, asking.next)

    def _on_answer(self) -> None:
        try:
            data = self._socket.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._asking.next()  # nobody listens there
            return
        self._asking.received(data)  # what is no answer may be a forgery: the true one is waited for

    def close(self) -> None:
        self._asking.loop.unwatch(self._socket.fileno())
        self._socket.close()


class _ByTcp:
    """One resolver asked by a connection. Raises OSError."""

    def __init__(self, asking: _Asking, address: str, message: bytes) -> None:
        self._asking = asking
        self._out = len(message).to_bytes(2, "big") + message
        self._in = b""
        self._socket = asking.forwarder.open_socket(_version(address), _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        number = self._socket.connect_ex((address, asking.forwarder.port))
        if number not in (0, errno.EINPROGRESS):
            self._socket.close()
            raise OSError(number, os.strerror(number))
        asking.loop.watch_writing(self._socket.fileno(), self._on_room)

    def _on_room(self) -> None:
        try:
            self._out = self._out[self._socket.send(self._out) :]
        except BlockingIOError:
            return
        except OSError:
            self._asking.next()
            return
        if not self._out:
            self._asking.loop.unwatch_writing(self._socket.fileno())
            self._asking.loop.watch(self._socket.fileno(), self._on_answer, self._asking.next)

    def _on_answer(self) -> None:
        try:
            data = self._socket.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._in += data
        whole = len(self._in) >= 2 and len(self._in) >= 2 + int.from_bytes(self._in[:2], "big")
        if whole and self._asking.received(self._in[2 : 2 + int.from_bytes(self._in[:2], "big")]):
            return
        if whole or not data:
            self._asking.next()

    def close(self) -> None:
        self._asking.loop.unwatch(self._socket.fileno())
        self._socket.close()


def _version(address: str) -> int:
    return _socket.AF_INET6 if ":" in address else _socket.AF_INET
