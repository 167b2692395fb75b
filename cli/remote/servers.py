"""The server that a command means: by ``--host``, ``SHIPLAP_HOST``, or the context that ``shiplap context use`` chose.

CONFIG/contexts.json, mode 0600:  {"current": "ci", "contexts": {"ci": {"url": "https://ci:8080"}},
                                   "tokens": {"https://ci:8080": "…"}}
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from cli.remote.errors import NoServerError, RemoteError
from core.files import write_atomically
from core.settings import RegistrySettings, RemoteSettings, Settings

LOCAL = "local"  # the context that is no server
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Server:
    """A build service, and how this user speaks to it.

    url: scheme, host and port, without a path.
    token: "" when we have none.
    certificates: directories like ``certs.d`` with CAs to trust in addition to the system's.
    """

    url: str
    token: str
    certificates: tuple[Path, ...] = ()


@dataclass(slots=True)
class Contexts:
    """The file of servers that this user has named. Change it, then ``save``."""

    path: Path
    current: str = LOCAL
    urls: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, settings: RemoteSettings) -> Self:
        """Read it; empty when there is none yet. Raises RemoteError when it is damaged."""
        path = settings.config / "contexts.json"
        try:
            text = path.read_text()
        except FileNotFoundError:
            return cls(path)
        try:
            stored = json.loads(text)
            urls = {str(name): str(entry["url"]) for name, entry in stored.get("contexts", {}).items()}
            tokens = {str(url): str(token) for url, token in stored.get("tokens", {}).items()}
            return cls(path, str(stored.get("current", LOCAL)), urls, tokens)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RemoteError(f"{path} is damaged: {error}", hint="repair or remove it") from error

    def save(self) -> None:
        """Replace the file. Nobody else may read it, since it may hold tokens."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        document: dict[str, Any] = {
            "current": self.current,
            "contexts": {name: {"url": url} for name, url in sorted(self.urls.items())},
            "tokens": dict(sorted(self.tokens.items())),
        }
        write_atomically(self.path, json.dumps(document, indent=2).encode() + b"\n", mode=0o600)


def parse_url(text: str) -> str:
    """Normalise ``ci:8080`` or ``https://ci/`` to scheme, host and port. Raises RemoteError."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError as error:
        raise RemoteError(f"{text!r} is no server: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise RemoteError(f"{text!r} is no server", hint="write http://HOST:PORT or https://HOST")
    if parts.username is not None:
        raise RemoteError("a server's URL has no user", hint="use SHIPLAP_TOKEN, or shiplap login --host URL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"


def chosen_url(host: str | None) -> str | None:
    """The URL of the chosen server; None: this machine, without a server. host: the value of ``--host``."""
    settings = RemoteSettings.from_environ(host=host)
    if not settings.host and not (settings.config / "contexts.json").exists():
        return None
    contexts = Contexts.load(settings)
    name = settings.host or contexts.current
    if name in contexts.urls:
        return contexts.urls[name]
    if name == LOCAL:
        return None
    return parse_url(name)


def server(url: str, root: str | None) -> Server:
    """The server at ``url``, with our token for it. root: the value of ``--root``."""
    settings = RemoteSettings.from_environ(host="")
    token = settings.token or Contexts.load(settings).tokens.get(url, "")
    if not token and (own := _own_service(root)) and _same_service(url, own):
        token = _read(Settings.from_environ(root=root).root / "serve" / "admin.token")
    return Server(url, token, trusted_places(url, root))


def trusted_places(url: str, root: str | None) -> tuple[Path, ...]:
    """Directories of certificates for the server at ``url``: those for registries, since it is one too."""
    if not url.startswith("https://"):
        return ()
    from core.certificates import certificate_places

    return certificate_places(RegistrySettings.from_environ().docker_config, Settings.from_environ(root=root).root)


def required_server(host: str | None, root: str | None) -> Server:
    """The server that ``--host`` and the rest choose, else the service that runs on this machine.

    Raises NoServerError.
    """
    url = chosen_url(host) or _own_service(root)
    if not url:
        raise NoServerError(
            "no build service is chosen, and none runs here",
            hint="shiplap --host URL …, SHIPLAP_HOST, shiplap context add NAME URL; or start one here: shiplap serve",
        )
    return server(url, root)


def is_here(server: Server, root: str | None) -> bool:
    """Whether ``server`` is the service that runs on this machine and this root."""
    own = _own_service(root)
    return bool(own) and (server.url == own or _same_service(server.url, own))


def require_private(server: Server, what: str) -> None:
    """Raise RemoteError unless nobody on the way can read what is sent: over TLS, or to this machine."""
    parts = urlsplit(server.url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise RemoteError(
            f"{what} is not sent to {server.url}: everybody on the way could read it",
            hint="let a proxy with TLS stand before the service, and use its https:// address",
        )


def _own_service(root: str | None) -> str:
    """The URL at which the service of this root listens; "" when none was started."""
    return _read(Settings.from_environ(root=root).root / "serve" / "url")


def _same_service(url: str, own: str) -> bool:
    """Whether both are the same port of this machine. Nobody else may get the administrator's token."""
    asked, ours = urlsplit(url), urlsplit(own)
    return asked.hostname in _LOOPBACK and (asked.scheme, asked.port) == (ours.scheme, ours.port)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (FileNotFoundError, PermissionError):
        return ""
