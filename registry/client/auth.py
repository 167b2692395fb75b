"""Authorization: what a registry wants, learnt from its 401; Basic, and Bearer tokens by scope.

Tokens are fetched once per set of scopes, kept until shortly before they expire, and renewed when a registry refuses
one. Sources: distribution's "Token Authentication Specification", "OAuth2 Token Authentication".
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlencode, urlsplit

from registry.client.challenges import Challenge, parse_challenges
from registry.client.config import ClientConfig
from registry.client.http import Request, Response, joined, read_limited, redacted
from registry.credentials import Credentials
from registry.errors import CredentialsError, InvalidResponseError

_CLIENT_ID: Final = "shiplap"
_DEFAULT_LIFETIME_S: Final = 60.0  # of a token whose answer does not say
_LEEWAY_S: Final = 10.0
_ANSWER_BYTES: Final = 1 << 20

Scopes: TypeAlias = tuple[str, ...]


class Grant(NamedTuple):
    """What a token service gave. lifetime_s: from when it was received."""

    token: str
    lifetime_s: float
    refresh_token: str = ""

    def __repr__(self) -> str:
        """Without the tokens."""
        return f"Grant(lifetime_s={self.lifetime_s})"


class _Registry:
    """What is known of one registry: its challenge once it has been heard, and tokens by scopes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.challenge: Challenge | None = None
        self.tokens: dict[Scopes, tuple[str, float]] = {}


class Authenticator:
    """Gives Authorization headers. Thread-safe; threads that want the same token wait for one request.

    send: sends a request to a token service on behalf of a domain, with retries; raises for every status but 200.
    credentials: looks up those of a domain; asked once for each.
    """

    def __init__(
        self,
        send: Callable[[Request, str], Response],
        credentials: Callable[[str], Credentials | None],
        config: ClientConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._lookup = credentials
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._registries: dict[tuple[str, str], _Registry] = {}
        self._credentials: dict[str, Credentials | None] = {}

    def header(self, domain: str, base: str, scopes: Scopes) -> str | None:
        """The Authorization for requests below ``base``; None when none is wanted, none is known to be wanted, or there
        is none.

        domain: whose credentials count. scopes: ``repository:PATH:pull,push`` and the like, in any order.
        """
        registry = self._registry(domain, base)
        with registry.lock:
            return self._header(registry, domain, base, tuple(sorted(set(scopes))))

    def renewed(self, domain: str, base: str, scopes: Scopes, challenge: str, refused: str | None) -> str | None:
        """After a 401: another header than ``refused`` that is worth a try, or None.

        challenge: the response's WWW-Authenticate.
        """
        chosen = _chosen(parse_challenges(challenge))
        if chosen is None:
            return None
        registry = self._registry(domain, base)
        wanted = tuple(sorted(set(scopes)))
        with registry.lock:
            registry.challenge = chosen
            kept = registry.tokens.get(wanted)
            if kept is not None and f"Bearer {kept[0]}" == refused:
                del registry.tokens[wanted]
            named = tuple(chosen.parameters.get("scope", "").split())
            header = self._header(registry, domain, base, wanted, also=named)
        return header if header != refused else None

    def learn(self, domain: str, base: str, challenge: str) -> None:
        """Note what a registry wants before anything is asked of it."""
        chosen = _chosen(parse_challenges(challenge))
        if chosen is not None:
            registry = self._registry(domain, base)
            with registry.lock:
                registry.challenge = chosen

    def challenge(self, domain: str, base: str) -> Challenge | None:
        """What the registry is known to want."""
        return self._registry(domain, base).challenge

    def has_credentials(self, domain: str) -> bool:
        """Whether credentials for ``domain`` were looked up and found."""
        with self._lock:
            return self._credentials.get(domain) is not None

    def user(self, domain: str) -> str | None:
        """The user that asks ``domain``: empty for a token without a name, None while nobody is logged in."""
        with self._lock:
            used = self._credentials.get(domain)
        return used.username if used is not None else None

    def credentials(self, domain: str) -> Credentials | None:
        """Those that are used for ``domain``."""
        with self._lock:
            if domain not in self._credentials:
                self._credentials[domain] = self._lookup(domain)
            return self._credentials[domain]

    def grant(
        self,
        challenge: Challenge,
        domain: str,
        base: str,
        scopes: Sequence[str],
        credentials: Credentials | None,
        *,
        offline: bool,
    ) -> Grant:
        """Ask the token service. offline: for a refresh token too, where the service gives any.

        Raises UnauthorizedError, InvalidResponseError, and what sending raises.
        """
        realm = self._realm(challenge, base)
        service = challenge.parameters.get("service", "")
        if credentials is not None and credentials.identity_token:
            request = _oauth_request(realm, service, scopes, credentials.identity_token)
        else:
            request = _token_request(realm, service, scopes, credentials, offline=offline)
        response = self._send(request, domain)
        data = read_limited(response, _ANSWER_BYTES)
        return _granted(data, redacted(realm))

    def _registry(self, domain: str, base: str) -> _Registry:
        with self._lock:
            return self._registries.setdefault((domain, base), _Registry())

    def _header(self, registry: _Registry, domain: str, base: str, scopes: Scopes, also: Scopes = ()) -> str | None:
        challenge = registry.challenge
        if challenge is None:
            return None
        credentials = self.credentials(domain)
        if challenge.scheme == "basic":
            return _basic(credentials) if credentials and credentials.username else None
        if credentials is not None and credentials.registry_token:
            return f"Bearer {credentials.registry_token}"
        token, expires_at = registry.tokens.get(scopes, ("", 0.0))
        if not token or self._clock() >= expires_at:
            wanted = dict.fromkeys((*scopes, *also))
            granted = self.grant(challenge, domain, base, list(wanted), credentials, offline=False)
            token = granted.token
            expires_at = self._clock() + max(granted.lifetime_s, _DEFAULT_LIFETIME_S) - _LEEWAY_S
            registry.tokens[scopes] = token, expires_at
        return f"Bearer {token}"

    def _realm(self, challenge: Challenge, base: str) -> str:
        realm = joined("", challenge.parameters.get("realm", ""))
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InvalidResponseError(f"{base} names no usable token service: realm {realm[:100]!r}")
        if parts.scheme == "http" and not self._config.allows_plain_http(parts.netloc):
            raise CredentialsError(
                f"{base} sends us for a token to {redacted(realm)}, where a password could be read on the way",
                hint=f"if you trust that network: --insecure-registry {parts.netloc}",
            )
        return realm


def _chosen(challenges: list[Challenge]) -> Challenge | None:
    """Bearer before Basic, whatever their order."""
    by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
    return by_scheme.get("bearer") or by_scheme.get("basic")


def _basic(credentials: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()


def _token_request(
    realm: str, service: str, scopes: Sequence[str], credentials: Credentials | None, *, offline: bool
) -> Request:
    pairs = [("service", service)] if service else []
    pairs += [("scope", scope) for scope in scopes]
    if offline:
        pairs += [("offline_token", "true"), ("client_id", _CLIENT_ID)]
    headers = {}
    if credentials is not None and credentials.username:
        pairs.insert(0, ("account", credentials.username))
        headers["Authorization"] = _basic(credentials)
    separator = "&" if urlsplit(realm).query else "?"
    return Request("GET", f"{realm}{separator}{urlencode(pairs)}" if pairs else realm, headers)


def _oauth_request(realm: str, service: str, scopes: Sequence[str], identity_token: str) -> Request:
    form = {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": _CLIENT_ID,
        "scope": " ".join(scopes),
        "refresh_token": identity_token,
    }
    return Request("POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode())


def _granted(data: bytes | None, realm: str) -> Grant:
    try:
        answer = json.loads(data or b"")
        token = answer.get("token") or answer.get("access_token")
        lifetime_s = float(answer.get("expires_in") or _DEFAULT_LIFETIME_S)
        refresh_token = str(answer.get("refresh_token") or "")
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidResponseError(f"the token service {realm} answered with something that is no token") from error
    if not isinstance(token, str) or not token or not token.isprintable():
        raise InvalidResponseError(f"the token service {realm} gave no token")
    return Grant(token, lifetime_s, refresh_token)
