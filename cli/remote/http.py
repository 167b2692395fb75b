"""One connection to a server's API: JSON requests, uploads, and streams. The standard library's client imports fast."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

from cli.remote.errors import RemoteError, ServerError, UnreachableServerError
from cli.remote.servers import Server
from core.closing import Closing
from core.connections import NOT_TLS
from core.release import VERSION

PREFIX: Final = "/api/v1"
_TIMEOUT_S: Final = 60.0
_HTTPS_PORT: Final = 443
_ERROR_BYTES: Final = 64 << 10
_BLOCK_BYTES: Final = 256 << 10
_HEAD_END: Final = b"\r\n\r\n"
_REPEATABLE: Final = ("GET", "PUT", "DELETE")


def segment(name: str) -> str:
    """A typed name as one part of a path. Raises RemoteError when it would lead to another address."""
    if name in ("", ".", "..") or "/" in name:
        raise RemoteError(f"{name!r} is no name", hint="names have letters, digits, '.', '_' and '-', and no '/'")
    return quote(name, safe="")


class Body(Protocol):
    """The body of a request: sent from its first byte, and maybe again."""

    def read(self, size: int = ..., /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...


class Client(Closing):
    """Requests to one server, one at a time, over a connection that is kept. A context manager; not thread-safe."""

    def __init__(self, server: Server, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.server = server
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None  # the last answer's; it may outlive the connection

    def call(self, method: str, path: str, body: Any = None, *, query: Mapping[str, str] | None = None) -> Any:
        """Send ``body`` as JSON to ``path`` below /api/v1. Returns the decoded answer, None when it is empty.

        Raises ServerError and UnreachableServerError.
        """
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        return _decoded(self._answer(method, path, data, headers, query))

    def get(self, path: str, *, query: Mapping[str, str] | None = None) -> bytes:
        """GET ``path`` below /api/v1: the answer as it came. Raises ServerError and UnreachableServerError."""
        return self._answer("GET", path, None, {}, query)

    def upload(
        self, method: str, path: str, file: Body, size_bytes: int, *, media: str = "application/octet-stream"
    ) -> Any:
        """Send ``file``, which has ``size_bytes``. Sends it again from its start if a kept connection broke."""
        headers = {"Content-Type": media, "Content-Length": str(size_bytes)}
        return _decoded(self._answer(method, path, file, headers, None))

    def stream(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        silence_s: float | None = None,
    ) -> http.client.HTTPResponse:
        """GET a long or endless answer. The caller reads it, and closes this client unless it read to the end.

        silence_s: how long nothing may come once the answer has begun; None: the same time as until it begins.
        """
        response = self._send("GET", path, None, headers or {}, query)
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise self._refusal(response)
        if silence_s is not None and self._socket is not None:
            self._socket.settimeout(silence_s)
        return response

    def upgrade(self, path: str, headers: Mapping[str, str]) -> tuple[socket.socket, bytes, Mapping[str, str]]:
        """GET ``path``, and let the connection become another protocol's. It is the caller's from then on.

        Returns it, what has come of the other protocol, and the head's fields, their names in lower case. Raises
        ServerError and UnreachableServerError.
        """
        connection = self._connect()
        try:
            connection.connect()
            sock, host = connection.sock, urlsplit(self.server.url).netloc
            fields = {"Host": host, "Connection": "Upgrade", "User-Agent": f"shiplap/{VERSION}", **headers}
            if self.server.token:
                fields["Authorization"] = f"Bearer {self.server.token}"
            lines = [f"GET {PREFIX}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
            sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            received = b""
            while _HEAD_END not in received:
                data = sock.recv(_ERROR_BYTES)
                if not data or len(received) > _ERROR_BYTES:
                    raise http.client.RemoteDisconnected("the server closed the connection")
                received += data
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            raise self._unreachable(error) from error
        head, _, early = received.partition(_HEAD_END)
        first, *rest = head.decode("latin-1").split("\r\n")
        if first.split(" ")[1:2] != [str(int(http.HTTPStatus.SWITCHING_PROTOCOLS))]:
            with contextlib.closing(connection), contextlib.suppress(http.client.HTTPException, OSError):
                response = http.client.HTTPResponse(_Replayed(received, sock))  # type: ignore[arg-type]
                response.begin()
                raise self._refusal(response)
            raise self._unreachable(http.client.BadStatusLine(first))
        pairs = (line.partition(":")[::2] for line in rest)
        return sock, early, {name.strip().lower(): value.strip() for name, value in pairs}

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = self._socket = None

    def _answer(
        self,
        method: str,
        path: str,
        data: bytes | Body | None,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None,
    ) -> bytes:
        response = self._send(method, path, data, headers, query)
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise self._refusal(response)
        try:
            return response.read()
        except (http.client.HTTPException, OSError) as error:
            self.close()
            raise self._unreachable(error) from error

    def _send(
        self,
        method: str,
        path: str,
        data: bytes | Body | None,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None,
    ) -> http.client.HTTPResponse:
        target = f"{PREFIX}{path}" if path.startswith("/") else f"/{path}"
        if query:
            target += "?" + urlencode(query)
        sent = {"User-Agent": f"shiplap/{VERSION}", "Accept": "application/json", **headers}
        if self.server.token:
            sent["Authorization"] = f"Bearer {self.server.token}"
        reused = self._connection is not None
        while True:
            try:
                return self._once(method, target, data, sent)
            except (http.client.HTTPException, OSError) as error:
                self.close()
                # A server closes connections that were idle for long. So this was no answer to this request.
                if not reused or method not in _REPEATABLE:
                    raise self._unreachable(error) from error
                reused = False

    def _once(
        self, method: str, target: str, data: bytes | Body | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        if data is not None and not isinstance(data, bytes):
            data.seek(0)
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request(method, target, body=data, headers=dict(headers))
        self._socket = self._connection.sock
        return self._connection.getresponse()

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.server.url)
        if parts.scheme == "https":
            from core.certificates import client_context

            return http.client.HTTPSConnection(
                parts.hostname or "",
                parts.port,
                timeout=self._timeout_s,
                context=client_context(parts.netloc, self.server.certificates),
                blocksize=_BLOCK_BYTES,
            )
        return http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=self._timeout_s, blocksize=_BLOCK_BYTES
        )

    def _refusal(self, response: http.client.HTTPResponse) -> ServerError:
        with contextlib.suppress(http.client.HTTPException, OSError):
            body = response.read(_ERROR_BYTES)
            with contextlib.suppress(ValueError, TypeError, KeyError):
                error = json.loads(body)["error"]
                hint = error.get("hint") or self._token_hint(response.status)
                return ServerError(str(error["message"]), hint=hint, status=response.status, code=str(error["code"]))
        self.close()
        return ServerError(
            f"{self.server.url} answered {response.status} {response.reason}",
            hint="is that a Shiplap service?",
            status=response.status,
            code="",
        )

    def _token_hint(self, status: int) -> str | None:
        if status != http.HTTPStatus.UNAUTHORIZED:
            return None
        return f"shiplap login --host {self.server.url}, or SHIPLAP_TOKEN"

    def _untrusted(self, error: ssl.SSLCertVerificationError) -> UnreachableServerError:
        from core.certificates import SYSTEM_CERTIFICATES, trust_hint_for

        place = next(iter(self.server.certificates[1:]), SYSTEM_CERTIFICATES)
        return UnreachableServerError(
            f"the certificate of {self.server.url} is not trusted: {error.verify_message}",
            hint=trust_hint_for(error, self.server.url, place),
        )

    def _unreachable(self, error: Exception) -> UnreachableServerError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._untrusted(error)
        code = getattr(error, "reason", None)  # ssl.SSLError has OpenSSL's word here
        if code in NOT_TLS:
            return UnreachableServerError(
                f"cannot reach {self.server.url}: what answers there does not speak TLS",
                hint=f"plain HTTP is http://{urlsplit(self.server.url).netloc}; over it everybody on the way can read",
            )
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return UnreachableServerError(
            f"cannot reach {self.server.url}: {reason}", hint="is the service running there? (shiplap serve)"
        )


class _Replayed(io.RawIOBase):
    """A socket of which some was read already, for ``HTTPResponse``: it is read again, and then what follows."""

    def __init__(self, received: bytes, sock: socket.socket) -> None:
        self._received = received
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        """As of a socket, to read from."""
        del mode
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        size = len(buffer)
        data, self._received = self._received[:size] or self._sock.recv(size), self._received[size:]
        buffer[: len(data)] = data
        return len(data)


def not_ours() -> ServerError:
    """What is said of an answer that no service gives, as of a proxy's page."""
    return ServerError(
        "the server's answer is no JSON of a service's", hint="is that a Shiplap service?", status=200, code=""
    )


def _decoded(data: bytes) -> Any:
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise not_ours() from error
