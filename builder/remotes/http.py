"""Fetches files by URL: follows redirects, asks for a known ETag first; in a service, addresses are checked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias
from urllib.parse import unquote, urljoin, urlsplit

import msgspec

from builder.errors import BuildCancelledError, FetchError
from builder.remotes.giturls import check_url, redacted
from builder.remotes.reach import pinned
from core.certificates import any_host_context
from core.connections import OpenSockets, is_exempt, reason
from core.reach import ANYWHERE, Reach

if TYPE_CHECKING:  # urllib3 costs 56 ms
    import urllib3

_CONNECT_TIMEOUT_S: Final = 20.0
_READ_TIMEOUT_S: Final = 60.0
_MAX_REDIRECTS: Final = 10
_POLL_S: Final = 0.1
_CHUNK: Final = 1 << 20
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

Progress: TypeAlias = Callable[[int, int], None]


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


class HttpAccess(msgspec.Struct, frozen=True):
    """The access that fetching URLs has.

    header: gives the Authorization header for a host, None for none.
    proxies: environment variables, ``https_proxy`` and the like; not used where addresses are pinned.
    """

    reach: Reach = ANYWHERE
    header: Callable[[str], str | None] | None = None
    proxies: Mapping[str, str] = msgspec.field(default_factory=dict)


class Response(msgspec.Struct, frozen=True):
    """What a server said about a file.

    etag: empty for none.
    modified_at: seconds since the epoch; None: not said.
    """

    etag: str
    modified_at: int | None


class HttpFiles:
    """Fetches files. stopped: asked between the pieces."""

    def __init__(self, access: HttpAccess, stopped: Callable[[], bool]) -> None:
        self._access = access
        self._stopped = stopped
        self._sockets = OpenSockets()
        self.is_public = access.reach.public_only
        """Whether all that was asked so far is at public addresses, and not let through by name."""

    def is_unchanged(self, url: str, etag: str) -> bool:
        """Whether the server still has the content with this ``etag``. An unclear answer means no."""
        with contextlib.suppress(FetchError), self._opened("HEAD", url, {"If-None-Match": etag}) as response:
            said = _plain_etag(response.headers.get("ETag", ""))
            return response.status == 304 or (response.status == 200 and said == _plain_etag(etag))
        return False

    def ask(self, url: str, document: bytes, headers: Mapping[str, str], most_bytes: int) -> bytes:
        """What the server answers to a document that is sent to it. Raises as ``fetch``."""
        import urllib3

        with self._opened("POST", url, {}, own=headers, body=document) as response, self._ended_when_stopped():
            if response.status != 200:
                raise _refused(url, response)
            try:
                answer = response.read(most_bytes + 1, decode_content=True)
            except urllib3.exceptions.HTTPError as error:
                raise FetchError(f"{redacted(url)}: the transfer broke off: {reason(error)}") from error
            if len(answer) > most_bytes:
                raise FetchError(f"{redacted(url)}: the answer has more than {most_bytes} bytes")
            return bytes(answer)

    def fetch(
        self, url: str, sink: Sink, progress: Progress | None = None, *, headers: Mapping[str, str] = _NO_HEADERS
    ) -> Response:
        """Write the file to ``sink``. progress: called with the bytes that have come, and their total, 0 for unknown.

        headers: sent as well, and not to where the server redirects.
        Raises FetchError, InvalidUrlError, BuildCancelledError.
        """
        import urllib3

        with self._opened("GET", url, {}, own=headers) as response:
            if not 200 <= response.status < 300:
                raise _refused(url, response)
            length = response.headers.get("Content-Length", "")
            total, current = int(length) if length.isdecimal() else 0, 0
            try:
                with self._ended_when_stopped():
                    for data in response.stream(_CHUNK, decode_content=True):
                        sink.write(data)
                        current += len(data)
                        if progress is not None:
                            progress(current, total)
            except urllib3.exceptions.HTTPError as error:
                raise FetchError(f"{redacted(url)}: the transfer broke off: {reason(error)}") from error
            finally:
                self._check_stopped()
            return Response(response.headers.get("ETag", ""), _seconds(response.headers.get("Last-Modified", "")))

    def _check_stopped(self) -> None:
        if self._stopped():
            raise BuildCancelledError("fetching was cancelled")

    @contextlib.contextmanager
    def _ended_when_stopped(self) -> Iterator[None]:
        """Shut the connections down once the build is stopped, since the server may have fallen silent."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_POLL_S):
                if self._stopped():
                    self._sockets.shut_down()
                    return

        thread = threading.Thread(target=watch, name="fetch watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @contextlib.contextmanager
    def _opened(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        *,
        own: Mapping[str, str] = _NO_HEADERS,
        body: bytes | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """The answer at the end of the redirects. own: headers for this host alone. A body is sent nowhere else."""
        first = urlsplit(url)
        for _ in range(_MAX_REDIRECTS + 1):
            self._check_stopped()
            check_url(url)
            parts = urlsplit(url)
            sent = {"Accept-Encoding": "identity", "User-Agent": "shiplap", "Host": parts.netloc.rpartition("@")[2]}
            # Credentials go only to the host that they were given for, not to where it redirects.
            same_host = (parts.scheme, parts.hostname, parts.port) == (first.scheme, first.hostname, first.port)
            if same_host and (authorization := self._authorization(url)):
                sent["Authorization"] = authorization
            with self._sent(method, url, {**sent, **headers, **(own if same_host else {})}, body) as response:
                if body is not None or response.status not in _REDIRECTS or "Location" not in response.headers:
                    yield response
                    return
                url = urljoin(url, response.headers["Location"])
        raise FetchError(f"{redacted(url)}: more than {_MAX_REDIRECTS} redirects")

    def _authorization(self, url: str) -> str | None:
        from builder.remotes.gitroute import basic

        parts = urlsplit(url)
        if parts.username is not None:
            return basic(f"{unquote(parts.username)}:{unquote(parts.password or '')}")
        return self._access.header(parts.hostname or "") if self._access.header is not None else None

    @contextlib.contextmanager
    def _sent(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        import urllib3

        parts = urlsplit(url)
        target = parts.path or "/"
        target += f"?{parts.query}" if parts.query else ""
        timeout = urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S)
        options: dict[str, Any] = {"retries": False, "redirect": False, "preload_content": False, "timeout": timeout}
        with self._pool(url) as (pool, whole):
            try:
                response = pool.urlopen(method, url if whole else target, body=body, headers=headers, **options)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise FetchError(
                    f"cannot fetch {redacted(url)}: {reason(error)}", hint="is the URL right, and the host reachable?"
                ) from error
            try:
                yield response
            finally:
                response.close()

    @contextlib.contextmanager
    def _pool(self, url: str) -> Iterator[tuple[urllib3.HTTPConnectionPool | urllib3.PoolManager, bool]]:
        """What sends requests to the URL's host, and whether it takes whole URLs."""
        import urllib3

        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        address = pinned(self._access.reach, host, port)
        self.is_public = self.is_public and not self._access.reach.names(host, port)
        proxy = proxy_for(self._access.proxies, parts.scheme, host) if address is None else ""
        kinds = {
            "http": self._sockets.noting(urllib3.HTTPConnectionPool),
            "https": self._sockets.noting(urllib3.HTTPSConnectionPool),
        }
        if proxy:
            with urllib3.ProxyManager(proxy, ssl_context=any_host_context()) as manager:
                manager.pool_classes_by_scheme = kinds
                yield manager, True
            return
        named: dict[str, Any] = {"ssl_context": any_host_context()} if secure else {}
        if secure and address is not None:
            named |= {"server_hostname": host, "assert_hostname": host}
        with kinds[parts.scheme](address or host, port, **named) as pool:
            yield pool, False


def _refused(url: str, response: urllib3.BaseHTTPResponse) -> FetchError:
    told = f"{redacted(url)}: the server answered {response.status} {response.reason or ''}".rstrip()
    return FetchError(told, hint=_STATUS_HINTS.get(response.status))


_STATUS_HINTS: Final = {
    401: "give a token: --secret id=HTTP_AUTH_TOKEN_HOST,env=VARIABLE",
    403: "give a token: --secret id=HTTP_AUTH_TOKEN_HOST,env=VARIABLE",
    404: "is the URL right?",
}


def proxy_for(variables: Mapping[str, str], scheme: str, host: str) -> str:
    """The proxy for a host; empty for none. ``no_proxy`` names hosts and domains. This machine needs no proxy."""
    named = {name.lower(): value for name, value in variables.items()}
    if is_exempt(host.lower(), named.get("no_proxy", "")):
        return ""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return ""
    return named.get(f"{scheme}_proxy", "") or named.get("all_proxy", "")


def _plain_etag(etag: str) -> str:
    return etag.removeprefix("W/")


def _seconds(date: str) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except ValueError:
        return None
