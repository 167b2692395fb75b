"""Who talks to a keeper or to the nursery: connections, and the door through which they come."""

from __future__ import annotations

import _socket
import errno
import os

from containers.keeper import protocol
from core import packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from containers.keeper.loop import Loop

_PAUSE_S = 0.1
_FOR_NOW = (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.ENOBUFS, errno.ENOMEM)


class Peer:
    """A connection. ended: called when it closes."""

    def __init__(self, loop: Loop, sock: _socket.socket) -> None:
        self._loop = loop
        self.sock = sock
        self.ended: list[Callable[[], None]] = []

    def answer(self, message: dict[str, Any], fds: list[int] | tuple[int, ...] = ()) -> None:
        """Send a message; who has gone, or does not take it, gets none."""
        try:
            protocol.send(self.sock, message, fds, flags=_socket.MSG_DONTWAIT)
        except OSError:
            return

    def close(self) -> None:
        """End it."""
        if self.sock.fileno() >= 0:
            self._loop.unwatch(self.sock.fileno())
            self.sock.close()
            ended, self.ended = self.ended, []
            for each in ended:
                each()


class Door:
    """A listening socket at ``path``, which takes the place of what somebody who was killed has left there.

    Only this process's own user comes in, and is greeted. Without a descriptor to spare nobody is let in for a moment:
    a socket that stays readable would keep the loop busy with nothing else.

    come: called with each new peer, its descriptor not yet watched.
    """

    def __init__(self, loop: Loop, path: str, come: Callable[[Peer], None]) -> None:
        self._loop = loop
        self._path = path
        self._come = come
        if os.path.exists(path):
            os.unlink(path)
        self._listener = packets.listen(path)
        self._inode = os.stat(path).st_ino
        self._is_open = True
        loop.watch(self._listener.fileno(), self._accept)

    def is_there(self) -> bool:
        """Whether whoever asks at the path comes here."""
        try:
            return os.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let nobody in any more, and take the path away if it is still this door's."""
        if self._is_open:
            self._is_open = False
            self._loop.unwatch(self._listener.fileno())
            self._listener.close()
            if self.is_there():
                os.unlink(self._path)

    def _accept(self) -> None:
        try:
            sock = packets.accept(self._listener)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in _FOR_NOW:
                raise
            self._loop.unwatch(self._listener.fileno())
            self._loop.later(_PAUSE_S, self._again)
            return
        if packets.peer(sock)[1] != os.geteuid():
            sock.close()
            return
        peer = Peer(self._loop, sock)
        self._come(peer)
        peer.answer(protocol.hello())

    def _again(self) -> None:
        if self._is_open:
            self._loop.watch(self._listener.fileno(), self._accept)
