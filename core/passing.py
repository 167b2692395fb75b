"""A client's connection, passed on to another process of this host with what was read of it.

Each goes over a unix socket of its own: the descriptor with the length of what was read, then that. What comes short is
not taken: it would go on as a request with a hole in it.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

_LENGTH: Final = struct.Struct("=I")


def give(way: socket.socket, client: socket.socket, received: bytes) -> None:
    """Pass a connection on. received: what was read of it. Raises OSError."""
    socket.send_fds(way, [_LENGTH.pack(len(received))], [client.fileno()])
    way.sendall(received)


def take(way: socket.socket, most_bytes: int) -> tuple[socket.socket, bytes]:
    """A connection that was passed on, and what was read of it, at most so many bytes. Raises OSError."""
    head, fds, _, _ = socket.recv_fds(way, _LENGTH.size, 1)
    if not fds:
        raise ConnectionError("no descriptor came")
    try:
        client = socket.socket(fileno=fds[0])
    except OSError:
        os.close(fds[0])
        raise
    try:
        client.set_inheritable(False)
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else most_bytes + 1
        if length > most_bytes:
            raise ConnectionError(f"more than {most_bytes} bytes were read of it, or its length did not come")
        data = bytearray()
        while len(data) < length and (more := way.recv(length - len(data))):
            data += more
        if len(data) < length:
            raise ConnectionError(f"of {length} bytes that were read of it, {len(data)} came")
    except BaseException:
        client.close()
        raise
    return client, bytes(data)
