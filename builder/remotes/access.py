"""The access that a build has to other hosts: network bounds, SSH agents, proxies."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from core.settings import FetchSettings

if TYPE_CHECKING:  # none of it is needed by a build that fetches nothing
    from builder.remotes.gitroute import GitAccess
    from builder.remotes.http import HttpAccess
    from builder.remotes.ssh import SshAgent
    from core.reach import Reach

_DEFAULT_KEY = "default"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class SourceAccess(NamedTuple):
    """How a build reaches what it fetches.

    reach: the allowed hosts; None: any.
    ssh: agents by ID; git uses ``default``.
    known_hosts: the hosts whose keys to trust.
    proxies: environment variables.
    bounds: of fetching a git repository.

    These secrets of the build are used, as in BuildKit: ``GIT_AUTH_TOKEN`` and ``GIT_AUTH_HEADER`` (followed by
    ``.HOST`` for one host), ``HTTP_AUTH_TOKEN_HOST`` and ``HTTP_AUTH_HEADER_HOST``.
    """

    reach: Reach | None = None
    ssh: Mapping[str, SshAgent] = _NOTHING
    known_hosts: bytes = b""
    proxies: Mapping[str, str] = _NOTHING
    bounds: FetchSettings = FetchSettings()

    def git(self, secrets: Mapping[str, bytes]) -> GitAccess:
        from builder.remotes.gitroute import GitAccess
        from builder.remotes.ssh import SshAccess
        from core.reach import ANYWHERE

        agent = self.ssh.get(_DEFAULT_KEY)
        ssh = SshAccess(self.known_hosts, agent) if agent is not None or self.known_hosts else None
        header = functools.partial(git_header, secrets)
        return GitAccess(self.reach or ANYWHERE, header, ssh, proxies=self.proxies, bounds=self.bounds)

    def http(self, secrets: Mapping[str, bytes]) -> HttpAccess:
        from builder.remotes.http import HttpAccess
        from core.reach import ANYWHERE

        return HttpAccess(self.reach or ANYWHERE, functools.partial(_http_header, secrets), self.proxies)


class Remote(NamedTuple):
    """How to fetch a context.

    secrets, build_args: of the build.
    stopped: asked every now and then.
    """

    access: SourceAccess = SourceAccess()
    secrets: Mapping[str, bytes] = _NOTHING
    build_args: Mapping[str, str] = _NOTHING
    stopped: Callable[[], bool] = lambda: False


def git_header(secrets: Mapping[str, bytes], host: str) -> str | None:
    """The Authorization header for a host, of the secrets that ``SourceAccess`` names. None: there is none for it."""
    from builder.remotes.gitroute import basic

    for suffix in (f".{host}", ""):
        if header := _secret(secrets, f"GIT_AUTH_HEADER{suffix}"):
            return header
        if token := _secret(secrets, f"GIT_AUTH_TOKEN{suffix}"):
            return basic(f"x-access-token:{token}")
    return None


def _http_header(secrets: Mapping[str, bytes], host: str) -> str | None:
    token = _secret(secrets, f"HTTP_AUTH_TOKEN_{host}")
    return _secret(secrets, f"HTTP_AUTH_HEADER_{host}") or (f"Bearer {token}" if token else None)


def _secret(secrets: Mapping[str, bytes], name: str) -> str:
    return os.fsdecode(secrets.get(name, b"").strip())
