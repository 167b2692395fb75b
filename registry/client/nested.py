"""TLS within TLS: what an https proxy needs for an https registry. The standard library has it not for sockets."""

from __future__ import annotations

from typing import Final

from urllib3.util.ssltransport import SSLTransport

_RECEIVE_BYTES: Final = 64 << 10


class NestedTls(SSLTransport):
    """A connection that speaks TLS over one that does. As ``origins.Connected``."""

    def recv(self, size: int = _RECEIVE_BYTES, flags: int = 0) -> bytes:
        return bytes(super().recv(size, flags))  # an int only for who gives a buffer

    def shutdown(self, how: int, /) -> None:
        self.socket.shutdown(how)
