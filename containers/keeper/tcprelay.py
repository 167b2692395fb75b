"""TCP of a published port: each client joined to a connection into the container, both ways, by splice(2).

A container's unix sockets (``sockets``) are joined to the host's in the same way.

The bytes go through a pipe and never through this process. A few pipes serve all connections: one is kept only by a
direction whose receiver takes no more, until it does. A direction that has much to move is looked at once it has much,
as long as that goes on: each piece costs the same, however small it is. Half-closes are passed on, and so are resets.
A container that refuses, or is not there, gives a reset.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from containers.keeper.loop import Loop, Timer

_AT_ONCE = 64
_SO_MARK = 36
_PIPE_BYTES = 1 << 20
_SPARE_PIPES = 4
_PAUSE_S = 0.1
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_RESET = struct.pack("ii", 1, 0)
_MUCH_BYTES, _MUCH_TIMES = 1 << 16, 8  # so much at a time, so many times in a row, is a fast stream
_AWAITED_BYTES = 1 << 18
_LOOK_S = 0.002  # what is less than that has come for good after this time, and is taken
_OUT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class TcpRelay:
    """One listener and its connections.

    connect: (client's address, kind of socket, port) → a socket on its way to the container, or None.
    """

    def __init__(
        self,
        loop: Loop,
        listener: _socket.socket,
        port: int,
        connect: Callable[[str, int, int], _socket.socket | None],
    ) -> None:
        self._loop = loop
        self._listener: Any = listener  # with ``_accept``, as the module ``socket`` uses it
        self._port = port
        self._connect = connect
        self._pairs: set[_Pair] = set()
        self._pipes: list[tuple[int, int]] = []
        self._marked = False
        loop.watch(listener.fileno(), self._on_clients)

    def mark(self, mark: int) -> None:
        """Have the kernel bring in clients by itself (``containers.entrance``), 0: not any more. Raises OSError.

        It does at a port of all addresses of IPv4: the switch does not learn which one a client has called.
        """
        if self._listener.family == _socket.AF_INET and self._listener.getsockname()[0] == "0.0.0.0":  # noqa: S104
            if mark or self._marked:
                self._listener.setsockopt(_socket.SOL_SOCKET, _SO_MARK, mark)
            self._marked = mark != 0

    def end_all(self) -> None:
        """Reset all connections."""
        for pair in list(self._pairs):
            pair.reset()

    def close(self) -> None:
        """Reset all connections, and listen no more."""
        self.end_all()
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()
        for reader, writer in self._pipes:
            os.close(reader)
            os.close(writer)
        self._pipes.clear()

    def _on_clients(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                fd, peer = self._listener._accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF:
                    return  # of the connection that was to be taken: accept(2)
                self._loop.unwatch(self._listener.fileno())  # until there may be descriptors again
                self._loop.later(_PAUSE_S, self._resume)
                return
            client = _socket.socket(fileno=fd)
            client.setblocking(False)
            if self._marked:
                client.setsockopt(_socket.SOL_SOCKET, _SO_MARK, 0)  # it was the listener's
            self._join(client, str(peer[0]) if peer else "")

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.watch(self._listener.fileno(), self._on_clients)

    def _join(self, client: _socket.socket, address: str) -> None:
        try:
            inner = self._connect(address.partition("%")[0], _socket.SOCK_STREAM, self._port)
        except OSError:
            inner = None
        if inner is None:
            _reset(client)
            return
        self._pairs.add(_Pair(self._loop, client, inner, self))

    def forget(self, pair: _Pair) -> None:
        """A connection has ended."""
        self._pairs.discard(pair)

    def take_pipe(self) -> tuple[int, int]:
        """An empty pipe. Raises OSError."""
        if self._pipes:
            return self._pipes.pop()
        pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except PermissionError:
            return pipe  # an ordinary user's share of pipe pages is used up: a small one, then
        return pipe

    def give_pipe(self, pipe: tuple[int, int], *, empty: bool) -> None:
        """Take a pipe back."""
        if empty and len(self._pipes) < _SPARE_PIPES:
            self._pipes.append(pipe)
        else:
            os.close(pipe[0])
            os.close(pipe[1])


class _Pair:
    """A client and the connection into the container. Whatever fails ends this pair only."""

    __slots__ = ("_loop", "_relay", "client", "inner", "ways")

    def __init__(self, loop: Loop, client: _socket.socket, inner: _socket.socket, relay: TcpRelay) -> None:
        self._loop = loop
        self._relay = relay
        self.client = client
        self.inner = inner
        self.ways: tuple[_Way, _Way] | None = None
        loop.watch_writing(inner.fileno(), self._on_connected)

    def _on_connected(self) -> None:
        if self.inner.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
            self.reset()
            return
        self._loop.unwatch(self.inner.fileno())
        for each in (self.client, self.inner):
            if each.family != _socket.AF_UNIX:
                each.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.ways = (
            _Way(self, self._loop, self._relay, self.client, self.inner),
            _Way(self, self._loop, self._relay, self.inner, self.client),
        )

    def other(self, way: _Way) -> _Way:
        """The opposite direction."""
        assert self.ways is not None
        return self.ways[1] if way is self.ways[0] else self.ways[0]

    def ended(self) -> None:
        """One way is at its end; close both ends when the other is, too."""
        if self.ways is not None and all(way.done for way in self.ways):
            self._close()

    def reset(self) -> None:
        """End both with a reset."""
        for each in (self.client, self.inner):
            if each.fileno() >= 0:
                each.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
        self._close()

    def _close(self) -> None:
        for way in self.ways or ():
            way.drop_pipe()
        for each in (self.client, self.inner):
            if each.fileno() >= 0:
                self._loop.unwatch(each.fileno())
                each.close()
        self._relay.forget(self)


class _Way:
    """One direction. held: the pipe with what the receiver has not taken yet, and how many bytes."""

    __slots__ = (
        "_looking",
        "_loop",
        "_moved",
        "_much",
        "_pair",
        "_relay",
        "_sink",
        "_source",
        "_waiting",
        "done",
        "held",
    )  # fmt: skip

    def __init__(self, pair: _Pair, loop: Loop, relay: TcpRelay, source: _socket.socket, sink: _socket.socket) -> None:
        self._pair = pair
        self._loop = loop
        self._relay = relay
        self._source = source
        self._sink = sink
        self._waiting = False
        self._much = 0
        self._moved = False
        self._looking: Timer | None = None
        self.done = False
        self.held: tuple[tuple[int, int], int] | None = None
        loop.watch(source.fileno(), self._on_readable, pair.reset)

    def _on_readable(self) -> None:
        try:
            self._move()
        except OSError:
            self._pair.reset()
            return
        self._pair.other(self).retry()  # the loop has told of bytes from our source; that it has room is told second

    def _move(self) -> None:
        pipe = self._relay.take_pipe()
        try:
            count = os.splice(self._source.fileno(), pipe[1], _PIPE_BYTES, flags=_FLAGS)
        except OSError as error:
            self._relay.give_pipe(pipe, empty=True)
            if isinstance(error, BlockingIOError):
                return
            raise
        if count == 0:
            self._relay.give_pipe(pipe, empty=True)
            self._loop.unwatch_reading(self._source.fileno())
            self.done = True
            self._sink.shutdown(_socket.SHUT_WR)
            self._pair.ended()
            return
        self.held = (pipe, count)
        self._moved = True
        if self._looking is None:
            self._much = self._much + 1 if count >= _MUCH_BYTES else 0
            if self._much >= _MUCH_TIMES:
                self._await(_AWAITED_BYTES)
                self._looking = self._loop.later(_LOOK_S, self._look)
        self._drain()

    def _look(self) -> None:
        """See whether the stream is still fast; if not, what there is of it is taken as it comes."""
        self._looking = None
        if self._moved:
            self._moved = False
            self._looking = self._loop.later(_LOOK_S, self._look)
        else:
            self._much = 0
            self._await(1)

    def _await(self, size: int) -> None:
        """Be told of so many bytes, or of the end.  socket(7), SO_RCVLOWAT; tcp(7)"""
        self._source.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVLOWAT, size)

    def _drain(self) -> None:
        """Hand over what is held; wait for room while some is left. Raises OSError."""
        assert self.held is not None
        pipe, left = self.held
        try:
            while left:
                left -= os.splice(pipe[0], self._sink.fileno(), left, flags=_FLAGS)
        except BlockingIOError:
            self.held = (pipe, left)
            if not self._waiting:
                self._waiting = True
                self._loop.unwatch_reading(self._source.fileno())
                self._loop.watch_writing(self._sink.fileno(), self.retry)
            return
        self.held = None
        self._relay.give_pipe(pipe, empty=True)
        if self._waiting:
            self._waiting = False
            self._loop.unwatch_writing(self._sink.fileno())
            self._loop.watch(self._source.fileno(), self._on_readable, self._pair.reset)

    def retry(self) -> None:
        """Go on with what the receiver would not take, if it was so."""
        if not self._waiting:
            return
        try:
            self._drain()
        except OSError:
            self._pair.reset()

    def drop_pipe(self) -> None:
        """Give the pipe back with what is in it, and wait no more."""
        self._waiting = False
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self.held is not None:
            self._relay.give_pipe(self.held[0], empty=False)
            self.held = None


def _reset(sock: _socket.socket) -> None:
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
    sock.close()
