"""Messages between client, launcher and container set-up: one marshalled value and some descriptors per packet.

Both ends belong to the same user and trust each other. A message is a packet (``core.packets``); a big value (a
spec) travels in a memfd instead.
"""

from __future__ import annotations

import errno
import marshal
import os

from core import packets
from core.packets import MAX_FDS as MAX_FDS
from core.packets import from_fd as from_fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any


def socket_pair() -> tuple[_socket.socket, _socket.socket]:
    """Two connected, close-on-exec packet sockets."""
    return packets.pair()


def send(sock: _socket.socket, value: Any, fds: list[int] | tuple[int, ...] = ()) -> None:
    """Send ``value`` (None, bool, int, float, str, bytes, tuple, list, dict of these) with at most MAX_FDS descriptors.

    Raises OSError; BrokenPipeError when the other side is gone.
    """
    packets.send(sock, marshal.dumps(value), fds)


def receive(sock: _socket.socket) -> tuple[Any, list[int]] | None:
    """The next message and its descriptors (close-on-exec); None when the other side has closed.

    Raises OSError (EMFILE) when this process may not have that many descriptors.
    """
    received = receive_what_fits(sock)
    if received is None:
        return None
    value, fds, whole = received
    if not whole:
        for fd in fds:
            os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return value, fds


def receive_what_fits(sock: _socket.socket) -> tuple[Any, list[int], bool] | None:
    """As ``receive``, with the descriptors that this process may still have, and whether these are all."""
    received = packets.receive(sock)
    if received is None:
        return None
    data, fds, whole = received
    return marshal.loads(data), fds, whole  # noqa: S302 - the sender is this program


def to_memfd(value: Any) -> int:
    """A descriptor of an anonymous file that holds ``value``."""
    fd = os.memfd_create("shiplap", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            marshal.dump(value, file)
    except BaseException:
        os.close(fd)
        raise
    return fd


def from_memfd(fd: int) -> Any:
    """What ``to_memfd`` wrote. The descriptor stays open, and its offset is not used."""
    data = bytearray()
    while chunk := os.pread(fd, 1 << 20, len(data)):
        data += chunk
    return marshal.loads(data)  # noqa: S302 - the sender is this program
