"""The transport that talks to real registries: connections for each origin, TLS, proxies, checked addresses.

What is on a connection is ``wire``'s, how it is made is ``origins``'.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Mapping
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from core.connections import is_exempt, reason
from core.errors import HostNotFoundError, OutOfReachError
from registry.client.config import ClientConfig, hostname, is_loopback
from registry.client.http import Request, redacted
from registry.client.origins import READ_TIMEOUT_S, Connected, OpenConnections, Origin, Proxy, location
from registry.client.wire import Exchange, ProtocolError, ask
from registry.errors import InvalidResponseError, OutOfBoundsError, UnreachableError

_DRAIN_BYTES: Final = 64 << 10
_DRAIN_S: Final = 1.0
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_MAY_STAND_IN_A_TARGET: Final = "/?:@!$&'()*+,;=-._~%[]|"


class HttpResponse:
    """A ``Response``, and the connection that it comes by."""

    def __init__(self, exchange: Exchange, connection: Connected, origin: Origin, url: str) -> None:
        self._exchange = exchange
        self._connection: Connected | None = connection
        self._origin = origin
        self._url = url

    @property
    def status(self) -> int:
        return self._exchange.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._exchange.headers

    def read(self, size: int, /) -> bytes:
        if self._connection is None:
            return b""
        try:
            return self._exchange.read(size)
        except (OSError, ProtocolError) as error:
            raise UnreachableError(f"{redacted(self._url)}: {reason(error)}", connected=True) from error

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # A short rest is read, so that the connection can be used again; a long or slow one is not worth it.
        if not self._exchange.is_done:
            with contextlib.suppress(OSError, ProtocolError):
                connection.settimeout(_DRAIN_S)
                self._exchange.drain(_DRAIN_BYTES, _DRAIN_S)
                connection.settimeout(READ_TIMEOUT_S)
        if self._exchange.is_reusable:
            self._origin.give(connection)
        else:
            self._origin.end(connection)


class HttpTransport:
    """A ``Transport``: TLS as ``certs.d`` and the list of insecure registries say, proxies as the environment says.

    Where the configuration bounds the reach, each host's address is checked before the first request to the host. That
    address is used for as long as connections to it can be made.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._origins: dict[tuple[str, str], Origin] = {}
        self._opened = OpenConnections()

    def send(self, request: Request) -> HttpResponse:
        parts = urlsplit(request.url)
        try:
            origin = self._origin(parts)
        except HostNotFoundError as error:
            raise UnreachableError(error.message, hint="is its name spelt right, and DNS working?") from error
        except OutOfReachError as error:
            raise OutOfBoundsError(error.message, hint=error.hint) from error
        body = request.body() if callable(request.body) else request.body
        try:
            headers = {
                "Host": _host(parts),
                "Accept-Encoding": "identity",
                "User-Agent": "shiplap",
                **request.headers,
                **(origin.forwards or {}),
            }
            target = _target(parts, whole=origin.forwards is not None)
            connection = origin.take()
            try:
                exchange = ask(connection, request.method, target, headers, body)
            except BaseException:
                origin.end(connection)
                raise
        except UnreachableError:
            self._forget_address(parts)
            raise
        except (OSError, ProtocolError) as error:
            self._forget_address(parts)
            raise origin.failed(error) from error
        finally:
            if isinstance(body, Generator):
                body.close()  # and the file that it reads
        return HttpResponse(exchange, connection, origin, request.url)

    def abort(self) -> None:
        self._opened.shut_down()

    def close(self) -> None:
        with self._lock:
            origins = list(self._origins.values())
            self._origins.clear()
        for origin in origins:
            origin.close()

    def _origin(self, parts: SplitResult) -> Origin:
        key = (parts.scheme, parts.netloc)
        with self._lock:
            origin = self._origins.get(key)
        if origin is not None:
            if origin.is_proxied:
                self._config.reach.check_name(origin.host, origin.port)
            return origin
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise InvalidResponseError(f"{redacted(parts.geturl())} is no web address")
        proxy = self._proxy(parts)
        address = None
        if proxy is not None:
            self._config.reach.check_name(*location(parts))
        else:
            address = self._config.reach.pin(*location(parts))
        made = Origin(parts, self._config, self._opened, address, proxy)
        with self._lock:
            return self._origins.setdefault(key, made)

    def _forget_address(self, parts: SplitResult) -> None:
        """After a failure: another address may answer."""
        if self._config.reach.public_only:
            with self._lock:
                origin = self._origins.pop((parts.scheme, parts.netloc), None)
            if origin is not None:
                origin.close()

    def _proxy(self, parts: SplitResult) -> Proxy | None:
        text = self._config.https_proxy if parts.scheme == "https" else self._config.http_proxy
        if not text or _needs_no_proxy(hostname(parts.netloc.rpartition("@")[2]), self._config.no_proxy):
            return None
        return Proxy.parse(text)


def _host(parts: SplitResult) -> str:
    """The Host header: without a port that goes without saying, which signatures of URLs do not count."""
    return parts.netloc.rpartition("@")[2].removesuffix(_DEFAULT_PORTS[parts.scheme])


def _target(parts: SplitResult, *, whole: bool) -> str:
    """What of the URL is asked for. whole: also where, for a proxy. What may not stand in it is quoted."""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")  # geturl() doubles two slashes in front
    quoted = quote(path, safe=_MAY_STAND_IN_A_TARGET)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{quoted}" if whole else quoted


def _needs_no_proxy(name: str, no_proxy: str) -> bool:
    return is_loopback(name if ":" not in name else f"[{name}]") or is_exempt(name, no_proxy)
