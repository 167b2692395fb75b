"""Packets with descriptors over SOCK_SEQPACKET sockets: each is whole or absent.  unix(7)

``_socket`` is what ``socket`` wraps, at a tenth of its import time. (The launcher imports this: only what is cheap.)
"""

from __future__ import annotations

import _socket
import os
import struct  # not array, which brings collections.abc: the launcher would start a fifth later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MAX_BYTES = 1 << 16
MAX_FDS = 200  # the kernel's SCM_MAX_FD is 253
_FD_SPACE = _socket.CMSG_SPACE(MAX_FDS * 4)
_PEER_CREDENTIALS = struct.Struct("3i")
_BACKLOG = 128


def pair() -> tuple[_socket.socket, _socket.socket]:
    """Two connected, close-on-exec sockets."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)


def from_fd(fd: int) -> _socket.socket:
    """The socket that ``fd`` is."""
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)


def send(sock: _socket.socket, data: bytes, fds: Sequence[int] = (), *, flags: int = 0) -> None:
    """Send at most MAX_BYTES with at most MAX_FDS descriptors.

    Raises OSError; BrokenPipeError when the other side is gone.
    """
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL | flags)


def receive(sock: _socket.socket) -> tuple[bytes, list[int], bool] | None:
    """The next packet, its descriptors (close-on-exec), and whether these are all that were sent.

    None when the other side has closed. Some are missing when this process may not have that many.
    """
    try:
        data, ancillary, flags, _address = _receive(sock)
    except ConnectionResetError:
        # The peer closed before it had read all of ours. The kernel says that first, once; what it had sent follows.
        data, ancillary, flags, _address = _receive(sock)
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += struct.unpack(f"{len(payload) // 4}i", payload[: len(payload) // 4 * 4])
    if not data and not fds:
        return None
    return data, fds, not flags & _socket.MSG_CTRUNC


def _receive(sock: _socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
    return sock.recvmsg(MAX_BYTES, _FD_SPACE, _socket.MSG_CMSG_CLOEXEC)


def listen(path: str) -> _socket.socket:
    """A socket that listens at ``path``, for this user alone, and does not wait. Raises OSError."""
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    listener = _socket.socket(_socket.AF_UNIX, kind, 0)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def accept(listener: _socket.socket) -> _socket.socket:
    """The next connection. Raises BlockingIOError when there is none, OSError."""
    fd, _address = listener._accept()  # type: ignore[attr-defined]  # ``socket``, which wraps it, takes too long to import
    return from_fd(fd)


def peer(sock: _socket.socket) -> tuple[int, int, int]:
    """Who is at the other end: pid (0 where it has none here), uid and gid.  SO_PEERCRED"""
    raw = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid, uid, gid = _PEER_CREDENTIALS.unpack(raw)
    return pid, uid, gid
