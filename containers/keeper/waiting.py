"""Who waits for a container's end: by a connection to its keeper, and maybe with a client's that was handed over.

Whoever asks for a client's sake may be killed before the end comes. So the client's connection can be handed over
beside the question: then the client gets its answer from here, whether or not who asked is still there.
"""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from containers.keeper.loop import Loop
    from containers.keeper.peers import Peer

_DOCUMENT = b'{"StatusCode":%d}\n'


class Waiters:
    """All who wait for the end of one container. gone: called when a client that was handed over has gone."""

    def __init__(self, loop: Loop, gone: Callable[[], None]) -> None:
        self._loop = loop
        self._gone = gone
        self._waiting: list[_Waiting] = []

    @property
    def has_clients(self) -> bool:
        """Whether there are clients whose connection was handed over."""
        return any(waiting.client is not None for waiting in self._waiting)

    def add(self, peer: Peer, condition: str) -> None:
        """Have a peer told. condition: as the verb ``wait`` has it."""
        self._waiting.append(_Waiting(peer, condition))

    def hand(self, peer: Peer, fd: int) -> None:
        """Have a client told, too, for whose sake the peer waits; one that came too late for that has its answer.

        fd: the client's socket, owned from here on. Raises OSError for what is no socket.
        """
        client = _socket.socket(-1, -1, -1, fd)
        waiting = next((each for each in self._waiting if each.peer is peer and each.client is None), None)
        if waiting is None:
            client.close()
            return
        waiting.client = client
        self._loop.watch_end(fd, lambda: self._lost(waiting))

    def lose(self, peer: Peer) -> None:
        """A peer has gone. Its client is still to be told."""
        for waiting in self._waiting:
            if waiting.peer is peer:
                waiting.peer = None
        self._forget()

    def tell(self, exit_code: int, error: str, condition: str = "") -> None:
        """The end has come for those with a condition, or for all."""
        told = [waiting for waiting in self._waiting if not condition or waiting.condition == condition]
        self._waiting = [waiting for waiting in self._waiting if waiting not in told]
        for waiting in told:
            answer: dict[str, Any] = {"ok": True, "exit_code": exit_code, "error": error}
            if waiting.client is not None:
                answer["told"] = _sent(waiting.client, _DOCUMENT % exit_code)
                self._let_go(waiting)
            if waiting.peer is not None:
                waiting.peer.answer(answer)

    def _lost(self, waiting: _Waiting) -> None:
        self._let_go(waiting)
        self._forget()
        self._gone()

    def _let_go(self, waiting: _Waiting) -> None:
        if waiting.client is not None:
            self._loop.unwatch(waiting.client.fileno())
            waiting.client.close()
            waiting.client = None

    def _forget(self) -> None:
        """Whoever has neither a peer nor a client is nobody."""
        self._waiting = [waiting for waiting in self._waiting if waiting.peer is not None or waiting.client is not None]


class _Waiting:
    """Somebody who waits. peer: None when it has gone. client: its client's connection, if that was handed over."""

    def __init__(self, peer: Peer, condition: str) -> None:
        self.peer: Peer | None = peer
        self.condition = condition
        self.client: _socket.socket | None = None


def _sent(client: _socket.socket, document: bytes) -> bool:
    """Send a whole body of HTTP's in chunks. False where it has not all gone out: nobody waits for a client here."""
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(document), document)
    try:
        if client.send(body, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL) < len(body):
            return False
        client.shutdown(_socket.SHUT_WR)
    except OSError:
        return False
    return True
