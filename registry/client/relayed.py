"""Requests to registries that somebody else sends on, with rights of their own (``relay.Relay``)."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from registry.client.config import domain_of
from registry.client.http import Request, Response, Transport
from registry.credentials import Credentials
from registry.errors import UnreachableError

_TIMEOUT_S: Final = 120.0


class RelayedTransport:
    """Sends requests of a registry's protocol to a relay, and all others as they are.

    path: of the relay's socket.
    direct: for registries that this process has a log-in for, and for what is no registry, as a token's service.
    credentials: the log-in for a domain.
    """

    def __init__(self, path: str, direct: Transport, credentials: Callable[[str], Credentials | None]) -> None:
        self._path = path
        self._direct = direct
        self._credentials = credentials
        self._lock = threading.Lock()
        self._is_own: dict[str, bool] = {}
        self._open: set[socket.socket] = set()

    def send(self, request: Request) -> Response:
        """As a transport. Raises UnreachableError, TlsError."""
        parts = urlsplit(request.url)
        if not parts.path.startswith("/v2/") or self._has_own(parts.netloc):
            return self._direct.send(request)
        connection = _Connection(self._path)
        try:
            body = request.body
            content: bytes | Iterable[bytes] | None = body() if callable(body) else body
            connection.request(request.method, request.url, content, dict(request.headers))
            assert connection.sock is not None
            sock = connection.sock
            with self._lock:
                self._open.add(sock)
            try:
                response = connection.getresponse()
            except BaseException:
                self._forget(sock)
                raise
            return _Relayed(response, lambda: self._forget(sock))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UnreachableError(f"the relay to {parts.netloc} does not answer: {error}") from error

    def abort(self) -> None:
        """As a transport."""
        self._direct.abort()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """As a transport."""
        self._direct.close()

    def _has_own(self, host: str) -> bool:
        domain = domain_of(host)
        with self._lock:
            if domain in self._is_own:
                return self._is_own[domain]
        found = self._credentials(domain) is not None
        with self._lock:
            return self._is_own.setdefault(domain, found)

    def _forget(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.discard(sock)


class _Connection(http.client.HTTPConnection):
    """One to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("relay", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(_TIMEOUT_S)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


class _Relayed:
    """An answer. closed: called once, when nothing more of it is wanted."""

    def __init__(self, response: http.client.HTTPResponse, closed: Callable[[], None]) -> None:
        self._response = response
        self._closed = closed

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers  # type: ignore[return-value]  # it has what a mapping has, for names in any case

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes. Raises UnreachableError when it breaks off."""
        try:
            return self._response.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"the relay to a registry broke off: {error}") from error

    def close(self) -> None:
        self._closed()
        self._response.close()
