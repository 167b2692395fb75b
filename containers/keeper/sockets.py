"""The engine's API in a container: a socket of the container's own, each of whose clients is joined to the API's.

A bind of the socket's file would be stale when the API starts again, and a container's users may not open it. Here a
client is, for the API, whoever asked for the container: their rights, their engine.
"""

from __future__ import annotations

import _socket
import os

from containers import ascaller, syscalls
from containers.keeper.tcprelay import TcpRelay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from containers.keeper.loop import Loop

_BACKLOG = 128
_MODE = 0o660


class Sockets:
    """Those of one container, from one start to its end. place: of a directory on a tmpfs of this process's own."""

    def __init__(self, loop: Loop, place: str) -> None:
        self._loop = loop
        self._place = place
        self._relays: list[TcpRelay] = []
        self._trees: list[int] = []

    def open(self, mounts: list[tuple[Any, ...]], owner: tuple[int, int]) -> list[tuple[Any, ...]]:
        """The same mounts, with trees in the place of those of the kind ``socket``. Raises OSError.

        mounts: of ``specs.to_wire``. owner: the container's root.
        """
        return [self._listening(mount, owner) if mount[0] == "socket" else mount for mount in mounts]

    def close(self) -> None:
        """The container has ended: nobody is let in, and who is in is cut off."""
        for relay in self._relays:
            relay.close()
        for number, tree in enumerate(self._trees):
            os.close(tree)
            os.unlink(f"{self._place}/{number}")
        self._relays, self._trees = [], []

    def _listening(self, mount: tuple[Any, ...], owner: tuple[int, int]) -> tuple[Any, ...]:
        _kind, target, source, caller = mount
        os.makedirs(self._place, 0o700, exist_ok=True)
        path = f"{self._place}/{len(self._trees)}"
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
        try:
            listener.bind(path)
            os.chmod(path, _MODE)
            os.chown(path, *owner)
            listener.listen(_BACKLOG)
            tree = syscalls.open_tree(syscalls.AT_FDCWD, path, syscalls.OPEN_TREE_CLONE)
        except OSError:
            listener.close()
            raise
        self._trees.append(tree)
        self._relays.append(TcpRelay(self._loop, listener, 0, lambda *_: _connected(source, caller)))
        return ("given", target, tree)


def _connected(path: str, caller: dict[str, Any] | None) -> _socket.socket:
    """A connection to the API, as the caller; None: as this process. Raises OSError."""
    if caller is not None:
        return _socket.socket(fileno=ascaller.connected(path, caller))
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
