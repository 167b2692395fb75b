"""Messages between client, launcher and container set-up: one marshalled value and some descriptors per packet.

Both ends belong to the same user and trust each other. Sockets are SOCK_SEQPACKET, so a message is whole or absent; a
big value (a spec) travels in a memfd instead. ``_socket`` is what ``socket`` wraps, at a tenth of its import time.
"""

from __future__ import annotations

import _socket
import errno
import marshal
import os
import struct  # not array, which brings collections.abc: the launcher would start a fifth later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_BYTES = 1 << 16
MAX_FDS = 200  # the kernel's SCM_MAX_FD is 253

_FD_SPACE = _socket.CMSG_SPACE(MAX_FDS * 4)


def socket_pair() -> tuple[_socket.socket, _socket.socket]:
    """Two connected, close-on-exec packet sockets."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)


def from_fd(fd: int) -> _socket.socket:
    """The packet socket that ``fd`` is."""
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)


def send(sock: _socket.socket, value: Any, fds: list[int] | tuple[int, ...] = ()) -> None:
    """Send ``value`` (None, bool, int, float, str, bytes, tuple, list, dict of these) with at most MAX_FDS descriptors.

    Raises OSError; BrokenPipeError when the other side is gone.
    """
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([marshal.dumps(value)], ancillary, _socket.MSG_NOSIGNAL)


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
    try:
        data, ancillary, flags, _address = _receive(sock)
    except ConnectionResetError:
        # The peer closed before it had read all of ours. The kernel says that first, once; what it had sent follows.
        data, ancillary, flags, _address = _receive(sock)
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += struct.unpack(f"{len(payload) // 4}i", payload[: len(payload) // 4 * 4])
    if not data:
        return None
    return marshal.loads(data), fds, not flags & _socket.MSG_CTRUNC  # noqa: S302 - the sender is this program


def _receive(sock: _socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
    return sock.recvmsg(MAX_BYTES, _FD_SPACE, _socket.MSG_CMSG_CLOEXEC)


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
