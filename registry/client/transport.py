"""The transport that talks to real registries: urllib3, with connections and a TLS configuration for each origin."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from core.certificates import Shown, load_certificates, shown_certificate, tls_cause, trust_hint
from core.connections import NOT_TLS, OpenSockets, is_exempt, reason
from core.errors import HostNotFoundError, OutOfReachError, SettingsError
from registry.client.config import ClientConfig, hostname, is_loopback
from registry.client.http import Request, redacted
from registry.errors import OutOfBoundsError, PlainHttpServerError, RegistryConfigError, TlsError, UnreachableError

if TYPE_CHECKING:  # urllib3 costs 56 ms: imported when there is something to send
    import urllib3

_Look: TypeAlias = Callable[[], Shown | None]

_CONNECT_TIMEOUT_S: Final = 20.0
_READ_TIMEOUT_S: Final = 60.0  # for a single read: a connection over which nothing comes is taken for broken
_POOL_SIZE: Final = 16
_DRAIN_BYTES: Final = 64 << 10


class Urllib3Response:
    """A ``Response``, over one of urllib3's."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        self._response = response
        self._url = url

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    def read(self, size: int, /) -> bytes:
        import urllib3

        try:
            return self._response.read(size, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"{redacted(self._url)}: {reason(error)}", connected=True) from error

    def close(self) -> None:
        import urllib3

        # A short rest is read, so that the connection can be used again; a long one is not worth it.
        with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
            self._response.read(_DRAIN_BYTES, decode_content=False)
        self._response.close()


class Urllib3Transport:
    """A ``Transport``: TLS as ``certs.d`` and the list of insecure registries say, proxies as the environment says.

    Where the configuration bounds the reach, each host's address is checked before the first request to the host. That
    address is used for as long as connections to it can be made.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._managers: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._pools: dict[tuple[str, str], urllib3.HTTPConnectionPool] = {}
        self._sockets = OpenSockets()
        self._without_system_cas: dict[str, ssl.SSLContext] = {}  # by host

    def send(self, request: Request) -> Urllib3Response:
        import urllib3

        body = request.body() if callable(request.body) else request.body
        parts = urlsplit(request.url)
        try:
            pool, target = self._pool(parts)
            response = pool.urlopen(
                request.method,
                target,
                body=body,
                headers={
                    "Accept-Encoding": "identity",
                    "User-Agent": "shiplap",
                    **self._host(parts),
                    **request.headers,
                },
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S),
            )
        except HostNotFoundError as error:
            raise UnreachableError(error.message, hint="is its name spelt right, and DNS working?") from error
        except OutOfReachError as error:
            raise OutOfBoundsError(error.message, hint=error.hint) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if _is_untrusted(error) and self._load_system_cas(parts.netloc):
                return self.send(request)
            if self._config.reach.public_only:  # another address may answer
                self._pools.pop((parts.scheme, parts.netloc), None)
            certificates = self._config.docker_config / "certs.d" / parts.netloc
            raise _translated(error, parts.netloc, certificates, lambda: self._look(parts)) from error
        finally:
            if isinstance(body, Generator):
                body.close()  # and the file that it reads
        return Urllib3Response(response, request.url)

    def abort(self) -> None:
        self._sockets.shut_down()

    def close(self) -> None:
        with self._lock:
            managers, pools = list(self._managers.values()), list(self._pools.values())
            self._managers.clear()
            self._pools.clear()
        for manager in managers:
            manager.clear()
        for pool in pools:  # pinned ones are no manager's
            pool.close()

    def _pool(self, parts: SplitResult) -> tuple[Any, str]:
        """What sends requests to this origin, and the URL as it takes it. A pool is looked up once, not each time."""
        pool = self._pools.get((parts.scheme, parts.netloc))
        if pool is None:
            manager = self._manager(parts.scheme, parts.netloc)
            if manager.proxy is not None:
                self._config.reach.check_name(*_location(parts))
                return manager, parts.geturl()
            address = self._config.reach.pin(*_location(parts))
            made = manager.connection_from_url(parts.geturl()) if address is None else self._pinned(parts, address)
            pool = self._pools.setdefault((parts.scheme, parts.netloc), made)
        return pool, parts._replace(scheme="", netloc="", fragment="").geturl() or "/"

    def _pinned(self, parts: SplitResult, address: str) -> urllib3.HTTPConnectionPool:
        """Connections to ``address``; requests and TLS still use the host's name."""
        host, port = _location(parts)
        kind = self._kinds()[parts.scheme]
        named = {"server_hostname": host} if parts.scheme == "https" else {}
        pool: urllib3.HTTPConnectionPool = kind(address, port, **{**named, **self._options(parts.scheme, parts.netloc)})
        return pool

    def _host(self, parts: SplitResult) -> dict[str, str]:
        """The settings that urllib3 cannot derive for a pinned connection."""
        return {"Host": parts.netloc.rpartition("@")[2]} if self._config.reach.public_only else {}

    def _manager(self, scheme: str, host: str) -> urllib3.PoolManager:
        with self._lock:
            manager = self._managers.get((scheme, host))
            if manager is None:
                manager = self._managers[scheme, host] = self._new_manager(scheme, host)
            return manager

    def _new_manager(self, scheme: str, host: str) -> urllib3.PoolManager:
        import urllib3

        options = self._options(scheme, host)
        proxy = self._proxy(scheme, host)
        manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        manager.pool_classes_by_scheme = self._kinds()
        return manager

    def _kinds(self) -> dict[str, Any]:
        import urllib3

        return {
            "http": self._sockets.noting(urllib3.HTTPConnectionPool),
            "https": self._sockets.noting(urllib3.HTTPSConnectionPool),
        }

    def _options(self, scheme: str, host: str) -> dict[str, Any]:
        import urllib3

        options: dict[str, Any] = {"maxsize": _POOL_SIZE, "blocksize": 256 << 10}
        if scheme == "https":
            options |= {"ssl_context": self._tls(host)}
            if self._config.is_insecure(host):  # somebody has said so: no warning at every request
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
                options |= {"assert_hostname": False}
        return options

    def _tls(self, host: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as docker: any certificate in *.crt is a root
        if self._config.is_insecure(host):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif is_loopback(host):
            # It most likely speaks plain HTTP, or has a certificate of its own: 20 ms are saved.
            self._without_system_cas[host] = context
        else:
            context.load_default_certs()
        for directory in self._config.certificates:
            try:
                load_certificates(context, directory / host)
            except SettingsError as error:
                raise RegistryConfigError(error.message, hint=error.hint) from error
        return context

    def _look(self, parts: SplitResult) -> Shown | None:
        """Look at the certificate that a server shows; not through a proxy."""
        if self._proxy(parts.scheme, parts.netloc):
            return None
        host, port = _location(parts)
        try:
            address = self._config.reach.pin(host, port)
        except (HostNotFoundError, OutOfReachError):  # it was another one a moment ago
            return None
        return shown_certificate(address or host, port, host)

    def _load_system_cas(self, host: str) -> bool:
        """Returns whether that was still to be done."""
        context = self._without_system_cas.pop(host, None)
        if context is not None:
            context.load_default_certs()
        return context is not None

    def _proxy(self, scheme: str, host: str) -> str:
        proxy = self._config.https_proxy if scheme == "https" else self._config.http_proxy
        return "" if not proxy or _needs_no_proxy(hostname(host), self._config.no_proxy) else proxy


def _location(parts: SplitResult) -> tuple[str, int]:
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _needs_no_proxy(name: str, no_proxy: str) -> bool:
    return is_loopback(name if ":" not in name else f"[{name}]") or is_exempt(name, no_proxy)


def _translated(error: Exception, host: str, certificates: Path, look: _Look) -> UnreachableError | TlsError:
    """certificates: where this user may put some for ``host``. look: at the one that it shows."""
    import urllib3.exceptions as kinds

    if isinstance(error, kinds.ProxyError):
        return UnreachableError(f"cannot reach {host} through the proxy: {reason(error)}")
    if isinstance(error, kinds.SSLError):
        return _tls_error(error, host, certificates, look)
    if isinstance(error, kinds.NameResolutionError):
        return UnreachableError(
            f"cannot find the registry {host}: {reason(error)}", hint="is its name spelt right, and DNS working?"
        )
    if isinstance(error, kinds.NewConnectionError | kinds.ConnectTimeoutError):
        return UnreachableError(
            f"cannot connect to the registry {host}: {reason(error)}", hint="is it running, and the port right?"
        )
    return UnreachableError(f"the connection to {host} broke: {reason(error)}", connected=True)


def _is_untrusted(error: Exception) -> bool:
    return isinstance(tls_cause(error), ssl.SSLCertVerificationError)


def _tls_error(error: Exception, host: str, certificates: Path, look: _Look) -> UnreachableError | TlsError:
    cause = tls_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint = _x509_hint(cause, host, certificates, look())
        return TlsError(f"{host}: x509: {cause.verify_message}", hint=hint)
    if isinstance(cause, ssl.SSLEOFError):
        return UnreachableError(f"the connection to {host} ended during the TLS handshake", connected=True)
    told = (cause.reason if cause else None) or str(error)
    if told in NOT_TLS:
        return PlainHttpServerError(
            f"{host} does not speak TLS",
            hint=f"if it is meant to be plain HTTP: --insecure-registry {host}, or SHIPLAP_INSECURE_REGISTRIES={host}",
        )
    if "ALERT" in told and "CERTIFICATE" in told:
        return TlsError(
            f"{host} wants a client certificate: {told}",
            hint=f"put it into {certificates}/ as client.cert and client.key",
        )
    return TlsError(f"{host}: TLS failed: {told}")


def _x509_hint(cause: ssl.SSLCertVerificationError, host: str, certificates: Path, shown: Shown | None) -> str | None:
    hint = trust_hint(cause.verify_code, certificates, shown)
    if hint is None or "ca.crt" not in hint:
        return hint
    return f"{hint} (or do without verification: --insecure-registry {host})"
