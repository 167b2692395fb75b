"""Requests to registries: authorized, redirected, repeated where that helps, and refused with a useful error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

from core.closing import Closing
from core.references import Reference
from registry import OURS_HEADER
from registry.client.auth import Authenticator, Scopes
from registry.client.config import ClientConfig, Endpoint, is_loopback
from registry.client.failures import failure
from registry.client.http import BodySource, Request, Response, Transport, joined, origin, read_limited, redacted
from registry.client.retrying import RetryPolicy, Tries, check_cancelled
from registry.credentials import Credentials, CredentialStore
from registry.errors import InvalidResponseError, PlainHttpServerError, RegistryError, TlsError, UnreachableError

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 5
_WATCH_S: Final = 0.2
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_NO_ANSWER_OF_REGISTRIES: Final = frozenset({400, 404, 405, 410, 501})  # to GET /v2/


class Client(Closing):
    """What a command needs to talk to registries: connections, tokens, policy. Thread-safe; a context manager.

    transport: the network; an ``HttpTransport`` when None.
    credentials: looks up those of a domain; docker's config when None.
    cancelled: once set, whatever runs ends with TransferCancelledError.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        transport: Transport | None = None,
        credentials: Callable[[str], Credentials | None] | None = None,
        policy: RetryPolicy | None = None,
        cancelled: threading.Event | None = None,
    ) -> None:
        lookup = credentials or CredentialStore(config.docker_config).get
        if transport is None:
            from registry.client.transport import HttpTransport

            transport = HttpTransport(config)
            if config.relay:
                from registry.client.relayed import RelayedTransport

                transport = RelayedTransport(config.relay, transport, lookup)
        self.config = config
        self.cancelled = cancelled or threading.Event()
        self._transport = transport
        self._policy = policy or RetryPolicy()
        self.auth = Authenticator(self._ask_token_service, lookup, config)
        self._lock = threading.Lock()
        self._bases: dict[Endpoint, tuple[threading.Lock, list[str]]] = {}
        self._ours: set[str] = set()  # bases
        self._doubtful: set[str] = set()  # bases that did not answer as a registry does
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def endpoints(self, reference: Reference, *, mirrors: bool) -> list[Endpoint]:
        """Where this image may be; mirrors, if wanted, come first."""
        return self.config.endpoints(reference.domain, mirrors=mirrors)

    def tries(self) -> Tries:
        """A count of tries for an operation that repeats more than a request."""
        return Tries(self._policy, self.cancelled)

    def base(self, endpoint: Endpoint) -> str:
        """``scheme://host/prefix``, found out at first use by asking for ``/v2/``.

        Raises UnreachableError, TlsError.
        """
        with self._lock:
            lock, known = self._bases.setdefault(endpoint, (threading.Lock(), []))
        with lock:
            if not known:
                known.append(self._probe(endpoint))
            return known[0]

    def is_ours(self, endpoint: Endpoint) -> bool:
        """Whether a Shiplap registry answers there."""
        return self.base(endpoint) in self._ours

    def call(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        *,
        expect: Collection[int],
        scopes: Scopes = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | BodySource | None = None,
        retry: bool = True,
        authorize: bool = True,
    ) -> Response:
        """Send a request until it is answered by one of the ``expect``ed statuses; the caller closes the response.

        url: absolute, or relative to the endpoint's base.
        retry: whether to repeat what failed for a passing reason.
        authorize: false for URLs that are none of the registry's own.
        Raises RegistryErrors.
        """
        tries = self.tries()
        while True:
            try:
                base = self.base(endpoint)
                request = Request(method, joined(f"{base}/", url), headers or {}, body)
                response = (
                    self._authorized(endpoint, base, request, scopes, expect) if authorize else self._bare(request)
                )
                if response.status in expect:
                    return response
                raise self._failure(response, request, endpoint.credentials_for, doubtful=base in self._doubtful)
            except RegistryError as error:
                if not retry:
                    raise
                tries.after(error)

    def fetch(
        self,
        endpoint: Endpoint,
        url: str,
        *,
        limit_bytes: int,
        scopes: Scopes = (),
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Response, bytes | None]:
        """GET something small: the response and its body, which is None when it has more than ``limit_bytes``."""
        tries = self.tries()
        while True:
            response = self.call(endpoint, "GET", url, expect={200}, scopes=scopes, headers=headers)
            try:
                return response, read_limited(response, limit_bytes)
            except UnreachableError as error:
                tries.after(error)

    def without_credentials(self) -> Client:
        """Another client that reaches the same places, and knows nobody; the caller closes it."""
        return Client(self.config, credentials=lambda _: None, policy=self._policy, cancelled=self.cancelled)

    def close(self) -> None:
        self._closed.set()
        self._transport.close()

    def _probe(self, endpoint: Endpoint) -> str:
        """Find the scheme that the registry speaks, without telling it anything; hear its challenge on the way."""
        *others, last = [f"{scheme}://{endpoint.host}{endpoint.prefix}" for scheme in endpoint.schemes]
        if others and is_loopback(endpoint.host) and (answer := self._plain_answer(last)) is not None:
            return self._heard(endpoint, last, answer)
        for base in others:
            try:
                return self._ping(endpoint, base)
            except (PlainHttpServerError, UnreachableError):
                continue  # some hang up on TLS that they do not speak
        return self._ping(endpoint, last)

    def _plain_answer(self, base: str) -> Response | None:
        """What a port of this machine answers to plain HTTP, if that is what it speaks: TLS takes 20 ms to load.

        None: servers of TLS hang up, answer 400, or send us to where they speak it.
        """
        try:
            response = self._send(Request("GET", f"{base}/v2/"))
        except UnreachableError:
            return None
        if response.status in (200, 401):
            return response
        response.close()
        return None

    def _ping(self, endpoint: Endpoint, base: str) -> str:
        return self._heard(endpoint, base, self._send(Request("GET", f"{base}/v2/")))

    def _heard(self, endpoint: Endpoint, base: str, response: Response) -> str:
        """The base, after what it answered to ``GET /v2/`` has been noted."""
        response.close()
        status, headers = response.status, response.headers
        if status == 200 and (headers.get("Content-Type") or "").startswith("text/html"):
            raise InvalidResponseError(
                f"{endpoint.host} is no registry: {base}/v2/ is a page for people", hint="are its name and port right?"
            )
        if headers.get(OURS_HEADER):
            self._ours.add(base)
        if status == 401:
            self.auth.learn(endpoint.credentials_for, base, headers.get("WWW-Authenticate", ""))
        elif status in _NO_ANSWER_OF_REGISTRIES:
            self._doubtful.add(base)
        return base

    def _watch(self) -> None:
        """End the waiting for the network once ``cancelled`` is set: a waiting thread does not look at it."""
        while not self._closed.is_set():
            if self.cancelled.wait(_WATCH_S):
                self._transport.abort()
                self._closed.wait(_WATCH_S)

    def _send(self, request: Request) -> Response:
        check_cancelled(self.cancelled)
        if self._watcher is None:
            with self._lock:
                if self._watcher is None:
                    self._watcher = threading.Thread(target=self._watch, name="registry-watch", daemon=True)
                    self._watcher.start()
        return self._transport.send(request)

    def _bare(self, request: Request) -> Response:
        parts = urlsplit(request.url)
        plain = parts.scheme == "http" and self.config.allows_plain_http(parts.netloc)
        if not parts.netloc or not (parts.scheme == "https" or plain):
            raise InvalidResponseError(f"{redacted(request.url)} is no address to fetch a layer from: not https")
        return self._following(request, "")[0]

    def _authorized(
        self, endpoint: Endpoint, base: str, request: Request, scopes: Scopes, expect: Collection[int]
    ) -> Response:
        domain = endpoint.credentials_for
        mine = origin(request.url) == origin(base)
        header = self.auth.header(domain, base, scopes) if mine else None
        response, ours = self._following(request, header or "")
        if response.status == 401 and mine and ours and 401 not in expect:
            challenge = response.headers.get("WWW-Authenticate", "")
            renewed = self.auth.renewed(domain, base, scopes, challenge, header)
            if renewed is not None:
                response.close()
                response, _ = self._following(request, renewed)
        return response

    def _following(self, request: Request, authorization: str) -> tuple[Response, bool]:
        """Send and follow redirects; returns also whether the request's own origin answered.

        Credentials go to that origin only.
        """
        start = origin(request.url)
        url = request.url
        for _ in range(_MAX_REDIRECTS + 1):
            ours = origin(url) == start
            headers = {**request.headers, **({"Authorization": authorization} if authorization and ours else {})}
            try:
                response = self._send(Request(request.method, url, headers, request.body))
            except (UnreachableError, TlsError) as error:
                if url != request.url:
                    error.message += f" ({urlsplit(request.url).netloc} redirects there)"
                raise
            followed = response.status in _REDIRECTS and (
                request.method in _SAFE_METHODS or response.status in (307, 308)
            )
            target = response.headers.get("Location", "") if followed else ""
            if not target:
                return response, ours
            response.close()
            url = self._redirected(url, target)
        raise InvalidResponseError(f"{request.method} {redacted(request.url)}: redirected over and over")

    def _redirected(self, url: str, target: str) -> str:
        there = joined(url, target)
        here, parts = urlsplit(url), urlsplit(there)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InvalidResponseError(f"{redacted(url)} redirects to {redacted(there)}, which is no web address")
        if here.scheme == "https" and parts.scheme == "http" and not self.config.allows_plain_http(parts.netloc):
            raise InvalidResponseError(
                f"{redacted(url)} redirects to {redacted(there)}, away from TLS",
                hint=f"if you trust that network: --insecure-registry {parts.netloc}",
            )
        return there

    def _ask_token_service(self, request: Request, domain: str) -> Response:
        tries = self.tries()
        while True:
            try:
                response = self._send(request)
                if response.status == 200:
                    return response
                raise self._failure(response, request, domain)
            except RegistryError as error:
                tries.after(error)

    def _failure(self, response: Response, request: Request, domain: str, *, doubtful: bool = False) -> RegistryError:
        return failure(
            response,
            request.method,
            request.url,
            domain,
            user=self.auth.user(domain),
            now=time.time(),
            login=self.config.login,
            doubtful=doubtful,
        )
