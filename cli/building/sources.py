"""The options of ``shiplap build`` for sources from elsewhere, and for what a build may do."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

from builder.remotes.access import SourceAccess
from cli.declared import Option
from cli.errors import CommandError
from core.settings import FetchSettings

if TYPE_CHECKING:
    from builder.contexts.kinds import NamedContext
    from builder.remotes.ssh import SshAgent
    from core.platforms import Platform
    from images.store import Store

_ENTITLEMENTS: Final = ("network.host", "security.insecure")
_AGENT: Final = "SSH_AUTH_SOCK"
_DEFAULT_KEY: Final = "default"
_KNOWN_HOSTS: Final = "~/.ssh/known_hosts"


class SourceOptions(NamedTuple):
    """The values as they were given."""

    build_contexts: Sequence[str]
    ssh: Sequence[str]
    allow: Sequence[str]


def read_access(options: SourceOptions, context: str, environ: Mapping[str, str]) -> SourceAccess:
    """The access that the build has to other hosts.

    context: when it is a git repository over ssh, the user's agent is included.
    Raises CommandError and SshKeyError.
    """
    agents = dict(_agent(text, environ) for text in options.ssh)
    sources = [context, *(text.partition("=")[2] for text in options.build_contexts)]
    if _DEFAULT_KEY not in agents and _AGENT in environ and any(_is_over_ssh(source) for source in sources):
        agents.update([_agent(_DEFAULT_KEY, environ)])
    proxies = {name: value for name, value in environ.items() if name.lower().endswith("_proxy")}
    bounds = FetchSettings.from_environ(environ)
    return SourceAccess(ssh=agents, known_hosts=_known_hosts(), proxies=proxies, bounds=bounds)


def read_entitlements(options: SourceOptions, network: str) -> frozenset[str]:
    """What the build may do. ``--network host`` allows the host's network for all steps. Raises CommandError."""
    for name in options.allow:
        if name not in _ENTITLEMENTS:
            raise CommandError(f"--allow {name}: no such entitlement", hint=f"it can be {' or '.join(_ENTITLEMENTS)}")
    return frozenset(options.allow) | ({"network.host"} if network == "host" else frozenset())


def open_build_contexts(
    options: SourceOptions, store: Store, platforms: Sequence[Platform], stack: ExitStack
) -> dict[str, NamedContext]:
    """The named contexts by key. ``stack`` closes them. Raises CommandError and what opening them raises."""
    if not options.build_contexts:
        return {}
    from builder.contexts.context import Context
    from builder.contexts.keys import context_key
    from builder.contexts.named import open_named_context

    opened: dict[str, NamedContext] = {}
    for text in options.build_contexts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise CommandError(f"--build-context {text}: not NAME=VALUE", hint="write --build-context lib=../lib")
        context = open_named_context(value, store, platforms)
        if isinstance(context, Context):
            stack.callback(context.close)
        opened[context_key(name)] = context
    return opened


def _agent(text: str, environ: Mapping[str, str]) -> tuple[str, SshAgent]:
    """The agent in ``ID``, ``ID=SOCKET`` or ``ID=KEY[,KEY…]``, by its ID."""
    from builder.remotes.ssh import SshAgent

    name, _, value = text.partition("=")
    paths = [path for path in value.split(",") if path]
    if not name:
        raise CommandError(f"--ssh {text}: has no ID", hint="write --ssh default, or --ssh ID=FILE")
    if not paths:
        if not environ.get(_AGENT):
            raise CommandError(
                f"--ssh {text}: no SSH agent is running: ${_AGENT} is not set",
                hint=f"start one (eval $(ssh-agent); ssh-add), or give a key: --ssh {name}=FILE",
            )
        return name, SshAgent.at(environ[_AGENT])
    if any(map(_is_socket, paths)):
        if len(paths) > 1:
            raise CommandError(f"--ssh {text}: one socket, or keys, and not both")
        return name, SshAgent.at(os.path.abspath(paths[0]))
    return name, SshAgent.of_keys(paths)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(os.path.expanduser(path)).st_mode)
    except OSError:
        return False


def _is_over_ssh(text: str) -> bool:
    if "@" not in text and not text.startswith("ssh://"):
        return False
    from builder.remotes.giturls import parse_git

    reference = parse_git(text)
    return reference is not None and reference.remote.scheme == "ssh"


def _known_hosts() -> bytes:
    try:
        with open(os.path.expanduser(_KNOWN_HOSTS), "rb") as file:
            return file.read()
    except OSError:
        return b""


SOURCE_OPTIONS: Final = (
    Option(
        ("--build-context",),
        "Let a directory, docker-image://IMAGE, oci-layout://DIR, a git repository or a URL stand for the stage or "
        "the image NAME. Repeatable.",
        metavar="NAME=VALUE",
        dest="build_contexts",
        multiple=True,
    ),
    Option(
        ("--ssh",),
        "Give RUN --mount=type=ssh and git an SSH agent: your own, or one with these keys. Repeatable.",
        metavar="ID[=SOCKET|=KEY,…]",
        multiple=True,
    ),
    Option(
        ("--allow",),
        "Let RUN steps ask for network.host or security.insecure. Repeatable.",
        metavar="ENTITLEMENT",
        multiple=True,
    ),
)
