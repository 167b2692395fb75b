"""Requests as fast as a server answers them: what one process asks over some connections that stay open.

It takes little of a processor itself, so that the server has the rest.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import Final

from bench.tools import ToolError

_TIMEOUT_S: Final = 30.0
_READ_BYTES: Final = 1 << 18
_LENGTH: Final = b"content-length:"


class _Connection:
    """One connection: a request at a time, as HTTP/1.1 with a Content-Length in the answers."""

    def __init__(self, address: str, request: bytes) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=_TIMEOUT_S)
        self._request = request
        self._got = bytearray()

    def ask(self) -> None:
        """Send the request."""
        self._got.clear()
        self.socket.sendall(self._request)

    def is_answered(self) -> bool:
        """Read what has come. Returns whether the answer is whole. Raises ToolError unless it is 200."""
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise ToolError("the server closed a connection")
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end:
            return False
        if b" 200 " not in head[:20]:
            raise ToolError(f"an answer that is not 200: {head[:200].decode(errors='replace')}")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(_LENGTH)]
        if not lengths:
            raise ToolError("an answer without a Content-Length")
        return len(body) >= int(lengths[0][len(_LENGTH) :])


def rate(address: str, path: str, authorization: str, *, connections: int = 8, seconds: float = 3.0) -> float:
    """How many requests a second are answered. address: HOST:PORT. Raises ToolError."""
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {authorization}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        found: dict[int, _Connection] = {}
        poller = select.epoll()
        stack.callback(poller.close)
        for _ in range(connections):
            connection = _Connection(address, request)
            stack.callback(connection.socket.close)
            found[connection.socket.fileno()] = connection
            poller.register(connection.socket, select.EPOLLIN)
            connection.ask()
        answered, begin = 0, time.perf_counter()
        while (now := time.perf_counter()) < begin + seconds:
            ready = poller.poll(_TIMEOUT_S)
            if not ready:
                raise ToolError(f"no answer within {_TIMEOUT_S:.0f} s")
            for fd, _ in ready:
                if found[fd].is_answered():
                    answered += 1
                    found[fd].ask()
        return answered / (now - begin)
