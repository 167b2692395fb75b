"""Looks at addresses: the public URL, from here and from a step's network; the identity provider."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from core.certificates import any_host_context, certificate_places, client_context, tls_cause, trust_hint_for
from core.errors import ShiplapError
from core.settings import OidcSettings, RegistrySettings, ServiceSettings, Settings
from pipelines.examination.findings import Finding

HERE: Final = "public URL"
STEP: Final = "public URL, from a step"
OIDC: Final = "OpenID Connect"
_LARGEST: Final = 1 << 20
_CONNECT_S, _READ_S = 5.0, 10.0
_HEALTHY: Final = b"ok\n"
_OK: Final = 200
_SYSTEM_CAS: Final = Path("/usr/local/share/ca-certificates")


class _FetchError(ShiplapError):
    """An address did not answer as it should."""


class _Answer(NamedTuple):
    status: int
    body: bytes


def look_at_public_url(settings: ServiceSettings) -> Iterator[Finding]:
    """Fetch ``/healthz`` below the public URL."""
    url = settings.public_url
    if not url:
        remedy = "set SHIPLAP_PUBLIC_URL=https://…: links in statuses and invitations begin with it"
        yield Finding(HERE, "WARN", "not set", remedy)
        return
    places = certificate_places(RegistrySettings.from_environ().docker_config, settings.root)
    answer = _fetch(f"{url}/healthz", _service_context(settings, urlsplit(url).netloc, places), places[1])
    problem = _problem(answer)
    if problem:
        yield Finding(HERE, "FAILED", f"{url}/healthz {problem}", "is this the address of the service, or its proxy's?")
    elif urlsplit(url).scheme != "https" and not _is_loopback(url):
        yield Finding(HERE, "WARN", f"{url} answers, without TLS", "put a proxy with TLS before it: docs/deploy.md")
    else:
        yield Finding(HERE, "OK", f"{url} answers")


def look_from_step(settings: ServiceSettings, folder: Path) -> Iterator[Finding]:
    """Fetch the same from a step's network. Builds do not need this, but Dockerfiles that fetch from the service do.

    folder: an empty private directory; it is empty again afterwards.
    """
    from containers.errors import ContainerError
    from containers.hubrules import parse_networks
    from containers.stepnetwork import in_step_network

    url = settings.public_url
    if not url:
        return
    denied = parse_networks(Settings.from_environ().denied_networks)
    try:
        said = in_step_network(folder, denied, lambda: _seen(f"{url}/healthz")).decode(errors="replace")
    except ContainerError as error:
        remedy = f"{error.hint or ''} (a host without a worker needs no network of steps)".strip()
        yield Finding(STEP, "WARN", f"not tried: {error.message}", remedy)
        return
    if said:
        remedy = "steps never reach their own host, nor SHIPLAP_DENIED_NETWORKS; builds need neither, only a Dockerfile"
        yield Finding(STEP, "WARN", f"{url}/healthz {said}", f"{remedy} that fetches from the service")
    else:
        yield Finding(STEP, "OK", f"{url} answers")


def look_at_oidc(settings: OidcSettings) -> Iterator[Finding]:
    """Fetch the discovery document, and the keys that sign tokens."""
    if not settings.issuer:
        yield Finding(OIDC, "OK", "no provider is set")
        return
    host = urlsplit(settings.issuer).netloc
    about = _document(settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
    if about.get("issuer") != settings.issuer:
        yield Finding(
            OIDC, "FAILED", f"{host} says that it is {str(about.get('issuer'))[:200]!r}",
            "SHIPLAP_OIDC_ISSUER must be exactly what it says",
        )  # fmt: skip
        return
    missing = [name for name in ("authorization_endpoint", "token_endpoint", "jwks_uri") if not about.get(name)]
    if missing:
        yield Finding(OIDC, "FAILED", f"the discovery document of {host} has no {', '.join(missing)}")
        return
    keys = _document(str(about["jwks_uri"])).get("keys")
    usable = [key for key in keys if isinstance(key, dict) and key.get("kty") in ("RSA", "EC", "OKP")] if keys else []
    if not usable:
        yield Finding(
            OIDC, "FAILED", f"{host} publishes no key that a token could be signed with", "ask its administrator"
        )
        return
    if not settings.roles:
        yield Finding(OIDC, "WARN", "no value of a claim gives a role: nobody gets in", "set SHIPLAP_OIDC_ROLES")
    yield Finding(OIDC, "OK", f"{host} answers, with {len(usable)} keys")


def _service_context(settings: ServiceSettings, host: str, places: Sequence[Path]) -> ssl.SSLContext:
    """The certificates that the service's own clients and its git trust at this host. Raises SettingsError."""
    context = client_context(host, places)
    if settings.git_ca_file is not None:
        with contextlib.suppress(OSError):  # a fault of it is a finding about git
            context.load_verify_locations(settings.git_ca_file)
    return context


def _document(url: str) -> dict[str, Any]:
    answer = _fetch(url, any_host_context())
    if answer.status != _OK:
        raise _FetchError(f"{_shown(url)} answered {answer.status}", hint="see SHIPLAP_OIDC_ISSUER")
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _FetchError(f"{_shown(url)} answered what is no JSON object", hint="see SHIPLAP_OIDC_ISSUER")
    return found


def _problem(answer: _Answer) -> str:
    if answer.status != _OK:
        return f"answers {answer.status}"
    return "" if answer.body == _HEALTHY else "answers what is none of Shiplap's"


def _seen(url: str) -> bytes:
    """What is wrong with an address, seen from here. A step's image decides whom the step trusts."""
    try:
        return _problem(_fetch(url, _trusting_context())).encode()
    except _FetchError as error:
        return f"does not answer: {error.message}".encode()


def _trusting_context() -> ssl.SSLContext:
    """A context that accepts any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _fetch(url: str, context: ssl.SSLContext, place: Path = _SYSTEM_CAS) -> _Answer:
    """GET a small body, without following redirects. Raises _FetchError.

    context: the certificates to trust.
    place: where to put a CA that is to be trusted.
    """
    import urllib3

    if urlsplit(url).scheme not in ("http", "https"):
        raise _FetchError(f"{_shown(url)} is no address of the web", hint="it begins with https://")
    if context.verify_mode == ssl.CERT_NONE:  # this is intended
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    timeout = urllib3.Timeout(connect=_CONNECT_S, read=_READ_S)
    try:
        with urllib3.PoolManager(timeout=timeout, retries=False, ssl_context=context) as http:
            headers = {"Accept-Encoding": "identity", "User-Agent": "shiplap"}
            response = http.request("GET", url, headers=headers, redirect=False, preload_content=False)
            body = response.read(_LARGEST + 1, decode_content=False)
            response.close()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise _FetchError(f"{_shown(url)}: {_why(error)}", hint=_hint(error, url, place)) from error
    if len(body) > _LARGEST:
        raise _FetchError(f"{_shown(url)} answers with more than {_LARGEST >> 20} MiB", hint="is it the right address?")
    return _Answer(response.status, body)


def _why(error: Exception) -> str:
    import urllib3

    from core.connections import reason

    timed_out = isinstance(error, urllib3.exceptions.TimeoutError)
    if timed_out and not isinstance(error, urllib3.exceptions.NewConnectionError):  # of its kind
        return "no answer in time"
    return reason(error)


def _hint(error: Exception, url: str, place: Path) -> str:
    cause = tls_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint = trust_hint_for(cause, url, place) or cause.verify_message
        return f"{hint}; then run update-ca-certificates" if place == _SYSTEM_CAS and "ca.crt" in hint else hint
    return "is its name spelt right, does it listen, and does no firewall stand between?"


def _shown(url: str) -> str:
    from registry.client.http import redacted

    return redacted(url)[:200]


def _is_loopback(url: str) -> bool:
    from registry.client.config import is_loopback

    return is_loopback(urlsplit(url).netloc)
