"""A connection in asyncio, with TLS or without, whose directions end apart; and two of them joined.

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
_PAUSE_S: Final = 0.01
_END: Final = b"\r\n\r\n"


class Duplex:
    """A connection without TLS. Its socket does not block."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._early = b""
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Do what has to be done before the first byte. Raises OSError."""

    @property
    def certificate(self) -> dict[str, Any] | None:
        """What the other side showed, if it did: as ``ssl.SSLObject.getpeercert`` has it."""
        return None

    def put_back(self, data: bytes) -> None:
        """Have it read next: what was read too early, or by somebody else."""
        self._early = data + self._early

    async def read(self) -> bytes:
        """What has come; b"" when the other side has ended its direction. Raises OSError."""
        if self._early:
            data, self._early = self._early, b""
            return data
        return await self._receive()

    async def _receive(self) -> bytes:
        return await self._loop.sock_recv(self._sock, PIECE)

    async def write(self, data: bytes) -> None:
        """Send it all. Raises OSError."""
        await self._loop.sock_sendall(self._sock, data)

    async def gone(self) -> None:
        """Return when the other side, which has ended its direction, is seen to take nothing more."""
        gone = select.poll()
        gone.register(self._sock, 0)  # what there is always: POLLHUP, POLLERR. Keepalive has asked who was silent
        while not gone.poll(0):
            await asyncio.sleep(_LOOK_EACH_S)

    async def finish(self) -> None:
        """End our direction, and read on."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    async def end(self) -> None:
        """End our direction, and wait a while for the other side to take what is on its way."""
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


class Secured(Duplex):
    """A connection with TLS. host: the server's name, for a client's end of it; "" for a server's."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str = "") -> None:
        super().__init__(sock)
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._come, self._go, server_side=not host, server_hostname=host or None)
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
            await self._flush()  # also what tells the other side why not

    @property
    def certificate(self) -> dict[str, Any] | None:
        return self._tls.getpeercert()

    async def _receive(self) -> bytes:
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

    async def finish(self) -> None:
        while self._come.pending or self._tls.pending():  # TLS breaks over data that comes while it says the end
            await asyncio.sleep(_PAUSE_S)
        await self._say_the_end()

    async def end(self) -> None:
        await self._say_the_end()
        await super().end()

    async def _say_the_end(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # it wants to read the other side's end, which may never come
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            await self._flush()

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


async def join(client: Duplex, server: Duplex, first: bytes) -> None:
    """Bytes both ways, until the server has ended its direction, or the client is gone. Raises OSError.

    first: what the server gets before all else.
    """
    loop = asyncio.get_running_loop()

    async def up() -> None:
        if first:
            await server.write(first)
        while data := await client.read():
            await server.write(data)
        await server.finish()
        await client.gone()
        raise ConnectionResetError("the client went away")

    async def down() -> None:
        while data := await server.read():
            await client.write(data)

    asked, answered = loop.create_task(up()), loop.create_task(down())
    try:
        while not answered.done():
            await asyncio.wait({answered} if asked.done() else {asked, answered}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and not asked.cancelled() and (error := asked.exception()) is not None:
                if isinstance(error, BrokenPipeError):
                    continue  # the server takes no more, and has something to say
                raise error
    finally:
        for task in (asked, answered):
            task.cancel()
        outcomes = await asyncio.gather(asked, answered, return_exceptions=True)
    if isinstance(outcomes[1], Exception):
        raise outcomes[1]
    await client.end()


async def read_head(client: Duplex, most_bytes: int) -> tuple[bytes, bytes] | None:
    """The head of the first request, without the empty line, and what came behind it. None: it is longer.

    Raises OSError, also for a client that goes away.
    """
    data = b""
    while _END not in data:
        if len(data) > most_bytes:
            return None
        more = await client.read()
        if not more:
            raise ConnectionResetError("the client went away")
        data += more
    head, _, rest = data.partition(_END)
    return head, rest
