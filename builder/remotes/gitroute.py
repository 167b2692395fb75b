"""The route by which git reaches one remote: URL, options and environment. For a service, its address is pinned.

A route leads to its remote alone: other protocols are off, no redirects are followed, no other host gets credentials.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from builder.remotes.giturls import GitRemote
from builder.remotes.reach import pinned
from builder.remotes.ssh import SshAccess
from core.fetchable import PORTS
from core.reach import ANYWHERE, Reach
from core.settings import FetchSettings

_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_WEB: Final = ("http", "https")


class GitAccess(msgspec.Struct, frozen=True):
    """The access that git has to repositories.

    reach: the allowed hosts.
    header: gives the Authorization header for an http host, None for none.
    ssh: keys, and whose keys to trust; None: the system's known hosts, and no key.
    ca_file: certificates to trust in place of the system's.
    proxies: environment variables.
    local: a repository on this machine that is fetched in place of the remote's URL.
    bounds: of time, and of the files that git writes.
    """

    reach: Reach = ANYWHERE
    header: Callable[[str], str | None] | None = None
    ssh: SshAccess | None = None
    ca_file: str | None = None
    proxies: Mapping[str, str] = msgspec.field(default_factory=dict)
    local: Path | None = None
    bounds: FetchSettings = FetchSettings()


class Route(msgspec.Struct, frozen=True):
    """How git is started to reach one remote.

    url: as git gets it.
    settings: options before git's command.
    environment: all of it.
    """

    url: str
    settings: tuple[str, ...]
    environment: Mapping[str, str]


def route_to(remote: GitRemote, access: GitAccess, ssh: Sequence[str]) -> Route:
    """The way to a remote elsewhere. ssh: options that name its keys and known hosts. Raises FetchError."""
    address = pinned(access.reach, remote.host, remote.port)
    schemes = tuple(PORTS) if address is None else (remote.scheme,)
    settings, url = _settings(schemes, access), remote.url
    command = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", *ssh]
    environment = {**_ENVIRONMENT, "GIT_ALLOW_PROTOCOL": ":".join(schemes)}
    if address is not None:
        shown = f"[{address}]" if ":" in address else address
        settings += ["-c", f"http.curloptResolve={remote.host}:{remote.port}:{shown}"]
        settings += ["-c", "http.followRedirects=false"]
        command += ["-o", f"HostName={address}", "-o", f"HostKeyAlias={remote.host}"]
        if remote.scheme == "git":  # git looks the name up itself: only the URL can give it an address
            url = urlsplit(url)._replace(netloc=f"{shown}:{remote.port}").geturl()
    else:
        environment |= {name: value for name, value in access.proxies.items() if name.lower() in _PROXIES}
    environment["GIT_SSH_COMMAND"] = " ".join(command)
    if header := _header(remote, access):  # not among the arguments, which anybody on this machine may read
        environment |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{_origin(remote)}.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: {header}",
        }
    return Route(url, tuple(settings), environment)


def route_here(url: str, access: GitAccess, config: str) -> Route:
    """The way to a repository on this machine. config: the path of git's configuration, as git sees it."""
    environment = {**_ENVIRONMENT, "GIT_ALLOW_PROTOCOL": "file", "GIT_CONFIG_GLOBAL": config}
    return Route(url, tuple(_settings(("file",), access)), environment)


def route_nowhere() -> Route:
    """For a git that has all that it needs: it connects to nothing."""
    return Route("", tuple(_settings((), GitAccess())), {**_ENVIRONMENT, "GIT_ALLOW_PROTOCOL": "none"})


def basic(credentials: str) -> str:
    """The Authorization header of ``user:password``."""
    return f"basic {b64encode(credentials.encode()).decode()}"


_ENVIRONMENT: Final = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
}


def _settings(schemes: Sequence[str], access: GitAccess) -> list[str]:
    """Git's configuration for a route that allows ``schemes``, as options before git's command."""
    settings = {
        "advice.detachedHead": "false",
        "core.fsmonitor": "false",
        "core.hooksPath": "/dev/null",
        "core.symlinks": "true",
        "fetch.fsckObjects": "true",
        "gc.auto": "0",
        "protocol.allow": "never",
        "submodule.recurse": "false",
        "transfer.credentialsInUrl": "die",
    }
    for scheme in schemes:
        settings[f"protocol.{scheme}.allow"] = "always"
    if access.ca_file:
        settings["http.sslCAInfo"] = access.ca_file
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _header(remote: GitRemote, access: GitAccess) -> str | None:
    if remote.credentials:
        return basic(remote.credentials)
    if access.header is None or remote.scheme not in _WEB:
        return None
    return access.header(remote.host)


def _origin(remote: GitRemote) -> str:
    location = f"[{remote.host}]" if ":" in remote.host else remote.host
    return f"{remote.scheme}://{location}:{remote.port}/"
