"""A client for a provider of identities: OpenID Connect's authorization code flow with PKCE, state and nonce.

A token is believed if its signature is by a key of the provider's and by an asymmetric algorithm, and if issuer,
audience, nonce and times are right.  OpenID Connect Core 1.0, 3.1; Discovery 1.0, 4; RFC 7636; RFC 9700.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import msgspec
import urllib3

from core.certificates import any_host_context
from core.settings import OidcSettings
from pipelines.accounts.sign_ins import SignIn
from pipelines.accounts.users import ROLES, Role
from pipelines.errors import SignInError

_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=10.0)
_MAX_BYTES: Final = 1 << 20
_KEPT_S: Final = 3600.0
_REFETCH_S: Final = 30.0
_LEEWAY_S: Final = 60
_OK: Final = 200

Document = TypeVar("Document")


class Metadata(msgspec.Struct, frozen=True):
    """The provider's discovery document, as far as it is used."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class TokenReply(msgspec.Struct, frozen=True):
    """The answer of the token endpoint."""

    id_token: str
    access_token: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """The person that the provider vouches for.

    name: the name that it suggests.
    values: of the claim that decides roles; None: the provider does not give this claim.
    """

    issuer: str
    subject: str
    name: str
    values: frozenset[str] | None


class Provider:
    """One provider. Thread-safe; what it publishes is fetched when needed, and kept for an hour."""

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._http = urllib3.PoolManager(timeout=_TIMEOUT, retries=False, ssl_context=any_host_context())
        self._lock = threading.Lock()
        self._metadata: tuple[float, Metadata] | None = None
        self._keys: tuple[float, dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        return self._settings.name

    def address(self, sign_in: SignIn, redirect_uri: str) -> str:
        """The address to send the browser to. Raises SignInError when the provider does not answer."""
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        return cast(
            str,
            prepare_grant_uri(
                self._discover().authorization_endpoint,
                self._settings.client_id,
                "code",
                redirect_uri=redirect_uri,
                scope=self._settings.scopes,
                state=sign_in.state,
                nonce=sign_in.nonce,
                code_challenge=create_s256_code_challenge(sign_in.verifier),
                code_challenge_method="S256",
            ),
        )

    def identify(self, code: str, sign_in: SignIn, redirect_uri: str) -> Identity:
        """Exchange the code that came back for the person's identity. Raises SignInError."""
        reply = self._exchange(code, sign_in, redirect_uri)
        claims = self._verified(reply, sign_in)
        if self._settings.role_claim not in claims and self._discover().userinfo_endpoint and reply.access_token:
            claims = {**self._user_info(reply.access_token, str(claims["sub"])), **claims}
        suggested = claims.get("preferred_username") or claims.get("email") or claims["sub"]
        said = claims.get(self._settings.role_claim)
        values = None if said is None else frozenset(map(str, said if isinstance(said, list) else [said]))
        return Identity(self._settings.issuer, str(claims["sub"]), str(suggested), values)

    def role(self, identity: Identity) -> Role:
        """The highest role that the settings give for these values. Raises SignInError where they give none."""
        values = identity.values or frozenset()
        fitting = [role for value, role in self._settings.roles if value == "*" or value in values]
        if not fitting:
            claim = f"the claim {self._settings.role_claim!r}"
            said = (
                f"the provider sent nothing in {claim}"
                if identity.values is None
                else f"{claim} has {len(values)} values"
            )
            raise SignInError(
                "the provider knows you, but gives you no role here",
                hint="an administrator can",
                reason=f"no role: {said}, and SHIPLAP_OIDC_ROLES has none that fits",
            )
        return cast(Role, max(fitting, key=lambda role: ROLES.index(cast(Role, role))))

    def _exchange(self, code: str, sign_in: SignIn, redirect_uri: str) -> TokenReply:
        from authlib.oauth2.auth import ClientAuth
        from authlib.oauth2.rfc6749.parameters import prepare_token_request

        metadata = self._discover()
        body = prepare_token_request(
            "authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=sign_in.verifier
        )
        method = "none"
        if self._settings.client_secret:
            known = metadata.token_endpoint_auth_methods_supported
            method = "client_secret_basic" if "client_secret_basic" in known else "client_secret_post"
        authentication = ClientAuth(self._settings.client_id, self._settings.client_secret, method)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url, headers, body = authentication.prepare("POST", metadata.token_endpoint, headers, body)
        return self._ask("POST", url, TokenReply, headers, body)

    def _verified(self, reply: TokenReply, sign_in: SignIn) -> dict[str, Any]:
        """The claims of an ID token that is right in every respect."""
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError, JoseError
        from joserfc.jwk import KeySet

        def decoded(keys: dict[str, Any]) -> jwt.Token:
            return jwt.decode(reply.id_token, KeySet.import_key_set(cast(Any, keys)), algorithms=_ALGORITHMS)

        options = {
            "iss": {"essential": True, "value": self._settings.issuer},
            "aud": {"essential": True, "value": self._settings.client_id},
        }
        expected = {
            "nonce": sign_in.nonce,
            "client_id": self._settings.client_id,
            "access_token": reply.access_token,
        }
        try:
            try:
                token = decoded(self._signing_keys())
            except InvalidKeyIdError:  # providers change their keys from time to time
                token = decoded(self._signing_keys(anew=True))
            claims = CodeIDToken(token.claims, token.header, options, expected)
            claims.validate(now=int(self._clock()), leeway=_LEEWAY_S)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise SignInError(f"the provider's ID token is not valid: {error}") from error
        return dict(claims)

    def _user_info(self, access_token: str, subject: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {access_token}"}
        claims = self._ask("GET", self._discover().userinfo_endpoint, dict[str, Any], headers)
        if claims.get("sub") != subject:
            raise SignInError("the provider's user information is of another subject")
        return claims

    def _discover(self) -> Metadata:
        with self._lock:
            if self._metadata is None or self._clock() - self._metadata[0] > _KEPT_S:
                url = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
                found = self._ask("GET", url, Metadata)
                if found.issuer != self._settings.issuer:
                    raise SignInError(
                        f"the provider says that it is {found.issuer!r}, expected {self._settings.issuer!r}",
                        hint="SHIPLAP_OIDC_ISSUER must be exactly what it says",
                    )
                self._metadata = (self._clock(), found)
            return self._metadata[1]

    def _signing_keys(self, *, anew: bool = False) -> dict[str, Any]:
        url = self._discover().jwks_uri
        with self._lock:
            age_s = self._clock() - self._keys[0] if self._keys is not None else _KEPT_S
            if self._keys is None or age_s >= (_REFETCH_S if anew else _KEPT_S):
                self._keys = (self._clock(), self._ask("GET", url, dict[str, Any]))
            return self._keys[1]

    def _ask(
        self,
        method: str,
        url: str,
        kind: type[Document],
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> Document:
        """The JSON document at a URL of the provider's. Raises SignInError."""
        host = urlsplit(url).netloc
        try:
            response = self._http.request(
                method, url, body=body, headers=headers, redirect=False, preload_content=False
            )
            try:
                data = response.read(_MAX_BYTES)
            finally:
                response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise SignInError(f"the provider {host} does not answer: {type(error).__name__}") from error
        if response.status != _OK:
            raise SignInError(f"the provider {host} answered {response.status} to {method} {urlsplit(url).path}")
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            raise SignInError(f"the provider {host} answered what is not understood: {error}") from error
