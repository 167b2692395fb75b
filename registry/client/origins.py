"""Connections to one origin: made directly, to an address that was checked, or by a proxy; kept, and used again."""

from __future__ import annotations

import _socket  # what ``socket`` wraps: that takes 7 ms more to load, and only TLS needs it
import base64
import contextlib
import functools
import select
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast
from urllib.parse import SplitResult, unquote, urlsplit

from core.connections import reason
from registry.client.config import ClientConfig
from registry.client.wire import ProtocolError, Stream, ask
from registry.errors import RegistryConfigError, RegistryError, UnreachableError

if TYPE_CHECKING:
    import ssl

    from registry.client.tls import Tls

_CONNECT_TIMEOUT_S: Final = 20.0
READ_TIMEOUT_S: Final = 60.0  # for a single read: a connection over which nothing comes is taken for broken
_MOST_IDLE: Final = 16
_PORTS: Final = {"http": 80, "https": 443}


class Connected(Stream, Protocol):
    """A connection: a socket, or one that speaks TLS."""

    def fileno(self) -> int: ...
    def settimeout(self, value: float | None, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class OpenConnections:
    """All connections that there are, so that they can be ended while other threads wait for them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Connected] = set()

    def add(self, connection: Connected) -> None:
        with self._lock:
            self._open.add(connection)

    def end(self, connection: Connected) -> None:
        """Close it."""
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def replace(self, before: Connected, now: Connected) -> None:
        """Note that a connection goes on as another object."""
        with self._lock:
            self._open.discard(before)
            self._open.add(now)

    def shut_down(self) -> None:
        """End them all, but for closing: whoever waits for one gets an error, and closes it."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):  # it has ended already, or is not there yet
                connection.shutdown(_socket.SHUT_RDWR)


class Proxy(NamedTuple):
    """A proxy: its URL in parts, and the header that it wants from us, or none."""

    scheme: str
    host: str
    port: int
    headers: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Read what a proxy variable says. Raises RegistryConfigError for what is no HTTP proxy."""
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            port = parts.port
            if parts.scheme not in _PORTS or not parts.hostname:
                raise ValueError
        except ValueError:
            shown = text.rpartition("@")[2]
            raise RegistryConfigError(
                f"{shown!r} is no proxy that registries can be reached through",
                hint="http_proxy and https_proxy are http://HOST[:PORT] or https://HOST[:PORT]",
            ) from None
        headers = {}
        if parts.username is not None:
            said = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            headers = {"Proxy-Authorization": f"Basic {base64.b64encode(said).decode('ascii')}"}
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], headers)


class Origin:
    """A scheme, host and port, and the idle connections to it. Thread-safe.

    address: what to connect to instead of looking the host up; None: its name is good enough.
    proxy: None for none.
    """

    def __init__(
        self,
        parts: SplitResult,
        config: ClientConfig,
        opened: OpenConnections,
        address: str | None,
        proxy: Proxy | None,
    ) -> None:
        self.host, self.port = location(parts)
        self.is_proxied = proxy is not None
        self._netloc = parts.netloc.rpartition("@")[2]
        self._scheme = parts.scheme
        self._config = config
        self._opened = opened
        self._address = address
        self._proxy = proxy
        self._lock = threading.Lock()
        self._idle: list[Connected] = []
        self._tls: Tls | None = None

    @property
    def forwards(self) -> dict[str, str] | None:
        """The headers for a proxy that is sent whole URLs; None: requests go to the origin itself."""
        return self._proxy.headers if self._proxy is not None and self._scheme == "http" else None

    def take(self) -> Connected:
        """An idle connection, or a new one. Raises UnreachableError, TlsError, RegistryConfigError."""
        while True:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                return self._connected()
            if not _has_something(kept):
                return kept
            self._opened.end(kept)  # the server has hung up

    def give(self, connection: Connected) -> None:
        """Keep a connection for the next request."""
        with self._lock:
            if len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
        self._opened.end(connection)

    def end(self, connection: Connected) -> None:
        """Close a connection that is of no more use."""
        self._opened.end(connection)

    def close(self) -> None:
        """Close every connection that is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            self._opened.end(connection)

    def _connected(self) -> Connected:
        while True:
            connection = self._proxied() if self._proxy is not None else self._direct()
            try:
                if self._scheme == "https":
                    connection = self._secured(connection)
                connection.settimeout(READ_TIMEOUT_S)
            except OSError as error:
                self._opened.end(connection)
                if self._tls is not None and self._tls.may_try_again(error):
                    continue
                raise self.failed(error) from error
            except BaseException:
                self._opened.end(connection)
                raise
            return connection

    def failed(self, error: OSError | ProtocolError) -> RegistryError:
        """What is said when a connection broke: a client's certificate may be asked for after the handshake."""
        if self._tls is not None:
            return self._tls.translated(error)
        return UnreachableError(f"the connection to {self._netloc} broke: {reason(error)}", connected=True)

    def _direct(self) -> Connected:
        try:
            return self._dialled(self._address or self.host, self.port)
        except (_socket.gaierror, UnicodeError) as error:
            raise UnreachableError(
                f"cannot find the registry {self._netloc}: {reason(error)}",
                hint="is its name spelt right, and DNS working?",
            ) from error
        except OSError as error:
            raise UnreachableError(
                f"cannot connect to the registry {self._netloc}: {reason(error)}",
                hint="is it running, and the port right?",
            ) from error

    def _proxied(self) -> Connected:
        assert self._proxy is not None
        connection: Connected | None = None
        try:
            connection = self._dialled(self._proxy.host, self._proxy.port)
            if self._proxy.scheme == "https":
                connection = self._wrapped(connection, _proxys_context(), self._proxy.host)
            if self._scheme == "https":
                self._tunnel(connection)
        except (OSError, UnicodeError, ProtocolError) as error:
            if connection is not None:
                self._opened.end(connection)
            raise UnreachableError(f"cannot reach {self._netloc} through the proxy: {reason(error)}") from error
        except RegistryError:
            if connection is not None:
                self._opened.end(connection)
            raise
        return connection

    def _tunnel(self, connection: Connected) -> None:
        """Have the proxy connect to the origin.  RFC 9110, 9.3.6."""
        assert self._proxy is not None
        place = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        answer = ask(connection, "CONNECT", place, {"Host": place, **self._proxy.headers})
        if not 200 <= answer.status < 300:
            raise UnreachableError(f"cannot reach {self._netloc} through the proxy: it answers {answer.status}")

    def _dialled(self, host: str, port: int) -> Connected:
        """A connection to the first address that takes one. Raises OSError, UnicodeError."""
        failed: OSError | None = None
        # A name of ASCII goes as bytes: the codec for others takes 27 ms to load.
        name = host.encode("ascii") if host.isascii() else host
        for family, kind, protocol, _, address in _socket.getaddrinfo(name, port, 0, _socket.SOCK_STREAM):
            try:
                connection = _socket.socket(family, kind, protocol)
            except OSError as error:
                failed = error
                continue
            self._opened.add(connection)
            try:
                connection.settimeout(_CONNECT_TIMEOUT_S)
                connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                connection.connect(address)
            except OSError as error:
                self._opened.end(connection)
                failed = error
            except BaseException:
                self._opened.end(connection)
                raise
            else:
                return connection
        raise failed or OSError("it has no address")

    def _secured(self, connection: Connected) -> Connected:
        from registry.client.tls import Tls

        with self._lock:
            if self._tls is None:
                near = self._proxy is None
                self._tls = Tls(self._config, self._netloc, self.host, self.port, is_near=near)
            tls = self._tls
        if self._proxy is not None and self._proxy.scheme == "https":
            return self._within(connection, tls)
        return self._wrapped(connection, tls.context, self.host)

    def _wrapped(self, connection: Connected, context: ssl.SSLContext, host: str) -> Connected:
        """The connection with TLS, after the handshake. Raises OSError."""
        import socket

        plain = socket.socket(fileno=cast(_socket.socket, connection).detach())
        self._opened.replace(connection, plain)
        secured: Connected = plain
        try:
            plain.settimeout(_CONNECT_TIMEOUT_S)
            secured = handshaken = context.wrap_socket(
                plain, server_hostname=host.rstrip("."), do_handshake_on_connect=False
            )
            self._opened.replace(plain, secured)  # from here on another thread can end the handshake
            handshaken.do_handshake()
        except BaseException:
            self._opened.end(secured)
            raise
        return secured

    def _within(self, connection: Connected, tls: Tls) -> Connected:
        """TLS to the origin within TLS to the proxy: rare, and done by urllib3."""
        from registry.client.nested import NestedTls

        nested = NestedTls(cast("ssl.SSLSocket", connection), tls.context, self.host.rstrip("."))
        self._opened.replace(connection, nested)
        return nested


def location(parts: SplitResult) -> tuple[str, int]:
    """The host and the port of a URL."""
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _has_something(connection: Connected) -> bool:
    """Whether an idle connection has anything to read: that can only be its end."""
    pending = getattr(connection, "pending", None)  # of TLS: what was decrypted already, and poll does not see
    if pending is not None and pending():
        return True
    asked = select.poll()
    asked.register(connection.fileno(), select.POLLIN)
    return bool(asked.poll(0))


@functools.cache
def _proxys_context() -> ssl.SSLContext:
    from core.certificates import any_host_context

    return any_host_context()
