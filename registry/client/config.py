"""Where registries are and how they may be spoken to: endpoints, mirrors, insecure registries, certificates.

``ROOT/registries.json`` (optional) has docker's words from ``daemon.json``, and mirrors for other registries than
docker.io:

    {"insecure-registries": ["ci:5000", "10.0.0.0/8"],
     "registry-mirrors": ["https://mirror.example"],
     "mirrors": {"quay.example": ["https://mirror.example/quay"]}}
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlsplit

from core.certificates import certificate_places
from core.reach import ANYWHERE, Reach
from core.references import DEFAULT_DOMAIN
from core.settings import RegistrySettings
from registry.client.failures import LOGIN
from registry.errors import RegistryConfigError

_DEFAULT_HOST: Final = "registry-1.docker.io"  # where docker.io's images are served


class Endpoint(NamedTuple):
    """One base of ``/v2/``.

    host: HOST[:PORT] as in a URL.
    prefix: path before ``/v2/``.
    schemes: to be tried in this order.
    credentials_for: the domain whose login counts.
    """

    host: str
    prefix: str
    schemes: tuple[str, ...]
    credentials_for: str
    is_mirror: bool = False


class ClientConfig(NamedTuple):
    """How registries are reached.

    docker_config: the directory of docker's ``config.json``.
    certificates: directories like ``certs.d``.
    insecure: HOST[:PORT] and ranges.
    mirrors: URLs by domain.
    reach: which hosts may be connected to, for registries, and for whatever they name or redirect to.
    login: the command that stores a log-in where it is looked for, for hints.
    relay: the socket of a ``relay.Relay``, which is asked where there is no log-in; empty: registries are.
    keeps_pulled: layers stay in the compressed form that they came in, too, where their registry has that.
    """

    docker_config: Path
    certificates: tuple[Path, ...] = ()
    insecure: tuple[str, ...] = ()
    mirrors: Mapping[str, tuple[str, ...]] = {}
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    reach: Reach = ANYWHERE
    login: str = LOGIN
    relay: str = ""
    keeps_pulled: bool = True

    @classmethod
    def load(
        cls, settings: RegistrySettings, root: Path, *, insecure: Sequence[str] = (), reach: Reach = ANYWHERE
    ) -> Self:
        """What the environment, ``root/registries.json`` and the caller say. Raises RegistryConfigError.

        reach: mirrors are always allowed, wherever they are, because the administrator has named them.
        """
        path = root / "registries.json"
        document = _read(path)
        mirrors = {domain: tuple(urls) for domain, urls in _mirrors(document, path).items()}
        named = _strings(document.get("insecure-registries", []), "insecure-registries", path)
        return cls(
            docker_config=settings.docker_config,
            certificates=certificate_places(settings.docker_config, root),
            insecure=tuple(map(_insecure, (*insecure, *settings.insecure_registries, *named))),
            mirrors=mirrors,
            http_proxy=settings.http_proxy,
            https_proxy=settings.https_proxy,
            no_proxy=settings.no_proxy,
            keeps_pulled=settings.keep_pulled_gzip,
            reach=reach.allowing(*(urlsplit(url).netloc for urls in mirrors.values() for url in urls)),
        )

    def endpoints(self, domain: str, *, mirrors: bool) -> list[Endpoint]:
        """Where the images of ``domain`` are: its mirrors first (for pulls), then itself."""
        found = [self._mirror(url) for url in self.mirrors.get(domain, ())] if mirrors else []
        host = _DEFAULT_HOST if domain == DEFAULT_DOMAIN else domain
        return [*found, Endpoint(host, "", self.schemes(host), domain)]

    def schemes(self, host: str) -> tuple[str, ...]:
        """TLS, and plain HTTP after it where that is allowed."""
        return ("https", "http") if self.allows_plain_http(host) else ("https",)

    def allows_plain_http(self, host: str) -> bool:
        """Whether ``HOST[:PORT]`` may be spoken to without TLS."""
        return is_loopback(host) or self.is_insecure(host)

    def is_insecure(self, host: str) -> bool:
        """Whether somebody named ``HOST[:PORT]`` (or its host, or a range that it is in) insecure."""
        name = hostname(host)
        address = _address(name)
        for entry in self.insecure:
            if entry in (host.lower(), name) or (address is not None and _in_range(address, entry)):
                return True
        return False

    def _mirror(self, url: str) -> Endpoint:
        parts = urlsplit(url)
        schemes = self.schemes(parts.netloc) if parts.scheme == "https" else (parts.scheme,)
        return Endpoint(parts.netloc, parts.path.rstrip("/"), schemes, parts.netloc, is_mirror=True)


def domain_of(host: str) -> str:
    """The domain whose images are at ``HOST[:PORT]``."""
    return DEFAULT_DOMAIN if host == _DEFAULT_HOST else host


def hostname(host: str) -> str:
    """HOST of ``HOST[:PORT]``, without the brackets of an IPv6 address."""
    return urlsplit(f"//{host}").hostname or host


def is_loopback(host: str) -> bool:
    """Whether ``HOST[:PORT]`` is this machine, by its spelling."""
    name = hostname(host)
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _in_range(address: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    try:
        return "/" in entry and address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _insecure(text: str) -> str:
    """An entry of a list of insecure registries, which may be a URL, as ``is_insecure`` wants it."""
    entry = text.strip().lower().removeprefix("http://").removeprefix("https://").rstrip("/")
    try:
        if "/" in entry:
            ipaddress.ip_network(entry, strict=False)
    except ValueError as error:
        raise RegistryConfigError(
            f"{text!r} in a list of insecure registries is neither a registry nor a range of addresses",
            hint="write HOST, HOST:PORT or 10.0.0.0/8",
        ) from error
    return entry


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RegistryConfigError(f"{path} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise RegistryConfigError(f"{path}: expected a JSON object")
    return document


def _mirrors(document: dict[str, Any], path: Path) -> dict[str, list[str]]:
    named = document.get("mirrors", {})
    if not isinstance(named, dict):
        raise RegistryConfigError(f"{path}: mirrors: expected an object", hint='{"mirrors": {"HOST": ["https://…"]}}')
    mirrors = {domain: _strings(urls, f"mirrors.{domain}", path) for domain, urls in named.items()}
    mirrors.setdefault(DEFAULT_DOMAIN, []).extend(
        _strings(document.get("registry-mirrors", []), "registry-mirrors", path)
    )
    for domain in mirrors:
        if "/" in domain:
            raise RegistryConfigError(f"{path}: mirrors: {domain!r} is no registry", hint="write HOST[:PORT] alone")
    for url in (url for urls in mirrors.values() for url in urls):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.username is not None or parts.query:
            raise RegistryConfigError(f"{path}: {url!r} is no address of a mirror", hint="write https://HOST[:PORT]")
    return mirrors


def _strings(value: object, name: str, path: Path) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise RegistryConfigError(f"{path}: {name}: expected a list of strings")
    return list(value)
