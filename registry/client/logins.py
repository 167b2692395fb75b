"""Login and logout: credentials are tried at the registry before they are stored as docker stores them."""

from __future__ import annotations

from typing import Final, NamedTuple

from core.errors import InvalidReferenceError
from core.references import DEFAULT_DOMAIN, Reference
from registry.client.client import Client
from registry.client.config import ClientConfig
from registry.client.http import Transport
from registry.credentials import DOCKER_NAMES, Credentials, CredentialStore
from registry.errors import RegistryConfigError, UnauthorizedError

_PING: Final = "v2/"


class LoggedIn(NamedTuple):
    """Where a login was put.

    stored_in: the file or the helper.
    plain_text: whether the password can be read there.
    """

    domain: str
    username: str
    stored_in: str
    plain_text: bool


def registry_domain(text: str) -> str:
    """The domain that a user means by ``ci:5000``, ``https://ci:5000/v2/``, or nothing (docker.io)."""
    bare = text.partition("://")[2] if "://" in text else text
    host = bare.partition("/")[0]
    if not host or host in DOCKER_NAMES:
        return DEFAULT_DOMAIN
    try:
        Reference.parse(f"{host if '.' in host or ':' in host else f'{host}:1'}/x")
    except InvalidReferenceError:
        raise RegistryConfigError(f"no name of a registry: {text!r}", hint="write HOST or HOST:PORT") from None
    return host


def login(
    domain: str, username: str, password: str, *, config: ClientConfig, transport: Transport | None = None
) -> LoggedIn:
    """Try the credentials and store them. Raises UnauthorizedError, CredentialsError and other RegistryErrors."""
    store = CredentialStore(config.docker_config)
    accepted = verify(domain, Credentials(username, password), config=config, transport=transport)
    plain_text = store.is_plain_text(domain)
    return LoggedIn(domain, username, store.put(domain, accepted), plain_text)


def verify(domain: str, given: Credentials, *, config: ClientConfig, transport: Transport | None = None) -> Credentials:
    """Use the credentials once; returns what to store: an identity token instead of the password where there is one.

    Raises UnauthorizedError and other RegistryErrors.
    """
    with Client(config, transport=transport, credentials=lambda _: given) as client:
        try:
            return _verify(client, domain, given)
        except UnauthorizedError as error:
            raise UnauthorizedError(
                f"{domain} does not accept these credentials: {error.message}",
                method=error.method,
                url=error.url,
                status=error.status,
                reported=error.reported,
                hint="mistyped? Some registries want an access token in place of the password",
            ) from error


def _verify(client: Client, domain: str, given: Credentials) -> Credentials:
    endpoint = client.config.endpoints(domain, mirrors=False)[0]
    base = client.base(endpoint)
    challenge = client.auth.challenge(domain, base)
    identity_token = ""
    if challenge is not None and challenge.scheme == "bearer":
        granted = client.auth.grant(challenge, domain, base, (), given, offline=True)
        identity_token = granted.refresh_token
    client.call(endpoint, "GET", _PING, expect={200}).close()
    return Credentials(given.username, "", identity_token) if identity_token else given


def logout(domain: str, *, config: ClientConfig) -> bool:
    """Forget the credentials; whether there were any. Raises CredentialsError."""
    return CredentialStore(config.docker_config).erase(domain)
