"""A client's connection over TCP, with TLS or without: read, write, and the end of either direction.

asyncio's own TLS ends a connection when one direction ends. docker's clients end their direction when their input does,
and wait for what comes after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
from typing import Any, Final

PIECE: Final = 128 << 10
_LINGER_S: Final = 5.0
_LOOK_EACH_S: Final = 1.0


class Client:
    """A connection without TLS. Its socket does not block."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Do what has to be done before the first byte. Raises OSError."""

    @property
    def certificate(self) -> dict[str, Any] | None:
        """What the client showed, if it did: as ``ssl.SSLObject.getpeercert`` has it."""
        return None

    async def read(self) -> bytes:
        """What has come; b"" when the client has ended its direction. Raises OSError."""
        return await self._loop.sock_recv(self._sock, PIECE)

    async def write(self, data: bytes) -> None:
        """Send it all. Raises OSError."""
        await self._loop.sock_sendall(self._sock, data)

    async def gone(self) -> None:
        """Return when the client, who has ended its direction, is seen to take nothing more."""
        gone = select.poll()
        gone.register(self._sock, 0)  # what there is always: POLLHUP, POLLERR. Keepalive has asked who was silent
        while not gone.poll(0):
            await asyncio.sleep(_LOOK_EACH_S)

    async def end(self) -> None:
        """End our direction, and wait a while for the client to take what is on its way."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError, TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self._drain(), _LINGER_S)

    async def _drain(self) -> None:
        while await self._loop.sock_recv(self._sock, PIECE):
            pass

    def close(self) -> None:
        """Let go of it."""
        self._sock.close()


class Secured(Client):
    """A connection with TLS."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._come, self._go, server_side=True)
        self._sending = asyncio.Lock()

    async def open(self) -> None:
        """Shake hands. Raises OSError, of which ssl.SSLError is a kind."""
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    return
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._more()
        finally:
            await self._flush()  # also what tells the client why not

    @property
    def certificate(self) -> dict[str, Any] | None:
        return self._tls.getpeercert()

    async def read(self) -> bytes:
        while True:
            try:
                return self._tls.read(PIECE)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                await self._flush()
                await self._more()

    async def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._tls.write(left) :]
        await self._flush()

    async def gone(self) -> None:
        """Its direction ends by TLS, and the connection by TCP."""
        await self._drain()

    async def end(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # it wants to read the client's end, which may never come
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            await self._flush()
        await super().end()

    async def _more(self) -> None:
        """Take what has come. Raises ConnectionError at an end that TLS did not tell: somebody may have cut it off."""
        data = await self._loop.sock_recv(self._sock, PIECE)
        if not data:
            raise ConnectionResetError("the connection was cut off")
        self._come.write(data)

    async def _flush(self) -> None:
        async with self._sending:
            if self._go.pending:
                await self._loop.sock_sendall(self._sock, self._go.read())
