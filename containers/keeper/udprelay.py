"""UDP of a published port: a socket into the container for each client, forgotten after a minute without a datagram.

What the container answers leaves from the address that the client asked (IP_PKTINFO). Who forges a flood of clients
pushes the oldest ones out, of this port only.
"""

from __future__ import annotations

import _socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from containers.keeper.loop import Loop, Timer

    Key: TypeAlias = tuple[Any, bytes]
    """The client's socket address, and the control message that answers from the address that it asked."""

_AT_ONCE = 32
_MOST_BYTES = 65536
_IDLE_S = 60.0
_LOOK_S = 10.0
_MOST_CLIENTS = 2048
_ANCILLARY = 64
_SOL_IP, _SOL_IPV6 = 0, 41
_IP_PKTINFO, _IPV6_PKTINFO = 8, 50


class _Client:
    """One client: its socket into the container, and when it was last heard of. moment: of ``time.monotonic``."""

    __slots__ = ("inner", "key", "moment")

    def __init__(self, inner: _socket.socket, key: Key, moment: float) -> None:
        self.inner = inner
        self.key = key
        self.moment = moment


def _send(inner: _socket.socket, data: bytes) -> None:
    """Send it, or lose it, as datagrams may be: nobody listens there, or its buffer is full.

    The first error may be of a datagram before it, from when nobody listened: then this one was not sent yet.
    """
    for _ in range(2):
        try:
            inner.send(data)
        except ConnectionRefusedError:
            continue
        except OSError:
            return
        return


class UdpRelay:
    """One bound socket and its clients, the one heard of longest ago first.

    connect: as ``TcpRelay``'s.
    """

    def __init__(
        self,
        loop: Loop,
        listener: _socket.socket,
        port: int,
        connect: Callable[[str, int, int], _socket.socket | None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._port = port
        self._connect = connect
        self._clients: dict[Key, _Client] = {}
        self._timer: Timer | None = None
        version6 = listener.family == _socket.AF_INET6
        self._level, self._kind = (_SOL_IPV6, _IPV6_PKTINFO) if version6 else (_SOL_IP, _IP_PKTINFO)
        loop.watch(listener.fileno(), self._on_datagrams)

    def end_all(self) -> None:
        """Forget all clients."""
        for client in list(self._clients.values()):
            self._forget(client)

    def close(self) -> None:
        """Forget all clients, and take no more."""
        self.end_all()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()

    def _on_datagrams(self) -> None:
        now = time.monotonic()
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _flags, peer = self._listener.recvmsg(_MOST_BYTES, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:
                continue  # an earlier answer's: the client has gone
            key = (peer, ancillary[0][2] if ancillary else b"")
            client = self._clients.pop(key, None)
            if client is None:
                client = self._new(key, now)
                if client is None:
                    continue
            client.moment = now
            self._clients[key] = client  # at the end
            _send(client.inner, data)

    def _new(self, key: Key, now: float) -> _Client | None:
        if len(self._clients) >= _MOST_CLIENTS:
            self._forget(next(iter(self._clients.values())))
        try:
            inner = self._connect(str(key[0][0]).partition("%")[0], _socket.SOCK_DGRAM, self._port)
        except OSError:
            return None
        if inner is None:
            return None
        client = _Client(inner, key, now)
        self._loop.watch(inner.fileno(), lambda: self._on_answers(client), lambda: self._forget(client))
        if self._timer is None:
            self._timer = self._loop.later(_LOOK_S, self._look)
        return client

    def _on_answers(self, client: _Client) -> None:
        peer, place = client.key
        answer_from = [(self._level, self._kind, self._source(place))] if place else []
        for _ in range(_AT_ONCE):
            try:
                data = client.inner.recv(_MOST_BYTES)
            except BlockingIOError:
                return
            except OSError:
                return  # refused: nobody listens there
            client.moment = time.monotonic()
            try:
                self._listener.sendmsg([data], answer_from, _socket.MSG_DONTWAIT, peer)
            except OSError:
                continue  # lost: the client has gone, or does not read

    def _source(self, place: bytes) -> bytes:
        """What was received says the address that was asked; as a wish, for the answer, by whatever interface.

        struct in_pktinfo: index, local address (which counts for sending), address in the header.
        """
        if self._level == _SOL_IP:
            return bytes(4) + place[4:8] + bytes(4)
        return place[:16] + (place[16:20] if place[:2] == b"\xfe\x80" else bytes(4))

    def _look(self) -> None:
        """Forget who was not heard of for long."""
        before = time.monotonic() - _IDLE_S
        for client in list(self._clients.values()):
            if client.moment < before:
                self._forget(client)
        self._timer = self._loop.later(_LOOK_S, self._look) if self._clients else None

    def _forget(self, client: _Client) -> None:
        self._clients.pop(client.key, None)
        if client.inner.fileno() >= 0:
            self._loop.unwatch(client.inner.fileno())
            client.inner.close()
