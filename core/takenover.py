"""Takes a connection over from a server that goes on with its own socket, and closes that."""

from __future__ import annotations

import os
import socket


def taken_over(sock: socket.socket) -> socket.socket:
    """The connection of a server's socket, which has a dead one from now on. Its time-out is the caller's to set."""
    mine = socket.socket(fileno=os.dup(sock.fileno()))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.dup2(ours.fileno(), sock.fileno(), inheritable=False)
    return mine
