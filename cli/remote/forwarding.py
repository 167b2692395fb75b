"""Another host's engine behind a unix socket of this user's: what docker's clients ask there has the user's token.

Of docker's clients only the command line can send a token; buildx and the SDKs cannot. Each connection here is one
there, on which its first request gets the token, and which ends with the answer: the other side takes no second one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from cli.remote.errors import RemoteError, UnreachableServerError
from cli.remote.servers import Server
from core.certificates import client_context
from core.connections import reason
from core.duplex import Duplex, Secured, join, read_head
from core.fetchable import PORTS
from core.refusing import refusal

PREFIX: Final = "/engine"
_MOST_HEAD_BYTES: Final = 64 << 10
_MOST_ANSWER: Final = 64 << 10
_REACH_S: Final = 20.0
_HEAD_S: Final = 600.0
_MOST: Final = 500
_PAUSE_S: Final = 0.1
_STATUS: Final = re.compile(r"HTTP/1\.[01] ([0-9]{3})")
_HTTP2: Final = b"PRI * HTTP/2.0"
_REPLACED: Final = (b"host", b"authorization")


class Forwarder:
    """Takes connections, and joins each to the engine at ``server``, whose token is sent."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        self._server = server
        self._host = parts.hostname or ""
        self._port = parts.port or PORTS[parts.scheme]
        self._netloc = parts.netloc
        self._context = client_context(parts.netloc, server.certificates) if parts.scheme == "https" else None
        self._tasks: set[asyncio.Task[None]] = set()

    async def check(self) -> None:
        """Raise RemoteError unless the engine is there, and lets us in."""
        try:
            status, answer = await asyncio.wait_for(self._asked(), 2 * _REACH_S)
        except (OSError, TimeoutError) as error:
            raise UnreachableServerError(f"cannot reach {self._server.url}: {_why(error)}") from error
        if status != 200:
            raise RemoteError(
                f"{self._server.url} has no engine for you: {answer or f'status {status}'}",
                hint="shiplap login --host URL with a token of the scope build; who may is in its --token-users",
            )

    async def serve(self, listener: socket.socket) -> None:
        """Take connections until cancelled."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:  # no more descriptors, or it has gone already
                await asyncio.sleep(_PAUSE_S)
                continue
            if len(self._tasks) >= _MOST:
                sock.close()
                continue
            task = loop.create_task(self._forward(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, sock: socket.socket) -> None:
        client = Duplex(sock)
        try:
            found = await asyncio.wait_for(read_head(client, _MOST_HEAD_BYTES), _HEAD_S)
            if found is None:
                await self._refuse(client, 431, "the head of the request is too large")
                return
            head, rest = found
            try:
                engine = await asyncio.wait_for(self._reached(), _REACH_S)
            except (OSError, TimeoutError) as error:
                await self._refuse(client, 502, f"cannot reach {self._server.url}: {_why(error)}")
                return
            with contextlib.closing(engine):
                if head == _HTTP2:  # gRPC at once, which only an upgrade can have a token before
                    await engine.write(self._head("POST", "/grpc", "Connection: Upgrade", "Upgrade: h2c"))
                    answer = await asyncio.wait_for(read_head(engine, _MOST_HEAD_BYTES), _REACH_S)
                    if answer is None or b" 101 " not in answer[0].split(b"\r\n")[0]:
                        return
                    engine.put_back(answer[1])
                    first = head + b"\r\n\r\n" + rest
                else:
                    first = self._with_token(head) + rest
                await join(client, engine, first)
        except (OSError, TimeoutError):
            pass  # one of both has gone
        finally:
            client.close()

    async def _reached(self) -> Duplex:
        """A connection to the engine. Raises OSError."""
        loop = asyncio.get_running_loop()
        error: OSError = OSError("no address")
        for family, kind, protocol, _, address in await loop.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                engine = Duplex(sock) if self._context is None else Secured(sock, self._context, self._host)
                await engine.open()
                return engine
            except OSError as failed:
                sock.close()
                error = failed
            except BaseException:
                sock.close()
                raise
        raise error

    async def _asked(self) -> tuple[int, str]:
        """The status of a ping, and the message of what was refused. Raises OSError."""
        engine = await self._reached()
        with contextlib.closing(engine):
            await engine.write(self._head("GET", "/_ping", "Connection: close"))
            data = b""
            while len(data) < _MOST_ANSWER and (more := await engine.read()):
                data += more
        head, _, body = data.partition(b"\r\n\r\n")
        found = _STATUS.match(head.decode("latin-1"))
        if found is None:
            raise OSError("it does not speak HTTP")
        return int(found[1]), _message(body)

    def _head(self, method: str, path: str, *more: str) -> bytes:
        """A whole head of a request of ours."""
        lines = [f"{method} {PREFIX}{path} HTTP/1.1", *self._own(), *more]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _with_token(self, head: bytes) -> bytes:
        """A client's head, as the other host is to have it."""
        first, *fields = head.split(b"\r\n")
        method, _, rest = first.partition(b" ")
        kept = [field for field in fields if field.partition(b":")[0].strip().lower() not in _REPLACED]
        own = [line.encode("latin-1") for line in self._own()]
        return b"\r\n".join([b"%b %b%b" % (method, PREFIX.encode(), rest), *own, *kept, b"", b""])

    def _own(self) -> list[str]:
        return [f"Host: {self._netloc}", f"Authorization: Bearer {self._server.token}"]

    async def _refuse(self, client: Duplex, status: int, message: str) -> None:
        await client.write(refusal(status, message))
        await client.end()


def forward(server: Server, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT. ready: called once the engine has let us in. Raises RemoteError."""
    import signal

    async def whole() -> None:
        forwarder = Forwarder(server)
        await forwarder.check()
        serving = asyncio.ensure_future(forwarder.serve(listener))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        ready()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    asyncio.run(whole())


def _message(body: bytes) -> str:
    """What an engine's error says; "" for what is none."""
    try:
        found = json.loads(body)
        return str(found["message"])[:1000]
    except (ValueError, TypeError, KeyError):
        return ""


def _why(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}; a CA of its own belongs into certs.d"
    return reason(error) if isinstance(error, OSError) and str(error) else "it does not answer in time"
