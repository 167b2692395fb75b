"""Where each command works when a build service is chosen: by ``--host``, SHIPLAP_HOST, or a context that is in use.

A command that silently worked on this machine could remove something here that was meant to go there. So each command
has its entry in one table. A test goes over the tree of commands and misses none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

import click

from cli.errors import CommandError

Place: TypeAlias = Literal["there", "here", "refused"]
"""What a command does while a service is chosen.

there: it asks the service.
here: it works on this machine, which is its only subject.
refused: it would work on this machine's data, so it is refused.
"""

_SERVICE: Final = {
    "build": "", "login": "", "logout": "", "workers": "",
    "runs": "ls show jobs logs watch open outputs shell approve refuse cancel retry",
    "secret": "ls policy rm set",
    "audit": "", "token": "add ls rm",
    "user": "add disable enable link ls passwd role", "project": "add archive set ls show rm unarchive",
    "project member": "ls set rm", "grant": "add rm ls login logout logins",
    "project hook": "approvals approve ls redeliver secret show token",
    "registry": "ls",
}  # fmt: skip
_THIS_MACHINE: Final = {
    "doctor": "", "engine": "", "serve": "", "web": "", "worker": "", "version": "", "completion": "", "man": "",
    "build history": "ls inspect logs rm",
    "context": "ls add use rm", "registry": "serve", "system": "dial-stdio forward",
    "ci": "run why lint graph convert schema",
    "project hook": "script",
}  # fmt: skip
_CONTAINERS: Final = (
    "run create start stop restart kill pause unpause rm ps logs exec attach top stats port diff cp export commit wait"
    " rename update"
)
_STORE: Final = {
    **dict.fromkeys(_CONTAINERS.split(), ""), "events": "", "info": "",
    "compose": "",
    "container": f"{_CONTAINERS} ls list inspect prune",
    "volume": "create ls list inspect rm remove prune",
    "network": "create ls list inspect connect disconnect rm remove prune",
    "system": "df prune info events",
    "pull": "", "push": "", "migrate": "", "backup": "", "restore": "", "images": "", "rmi": "", "tag": "",
    "history": "", "inspect": "", "load": "", "save": "", "import": "", "cache": "ls du rm prune", "registry": "gc",
    "image": "ls inspect history diff attestations referrers tag rm load save import prune verify",
    "registry user": "add grant ls password revoke rm", "registry token": "create ls rm",
}  # fmt: skip


def _table() -> dict[str, Place]:
    found: dict[str, Place] = {}
    places: tuple[tuple[Place, dict[str, str]], ...] = (
        ("there", _SERVICE), ("here", _THIS_MACHINE), ("refused", _STORE),
    )  # fmt: skip
    for place, groups in places:
        for group, names in groups.items():
            found |= {f"{group} {name}": place for name in names.split()} or {group: place}
    return found


PLACES: Final = _table()
"""Each command's place, by the words of the command."""


class Group(click.Group):
    """A click group that checks the table before it runs a command.

    Where a command line is only completed, the context's object is told each command on the way, by its words.
    """

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and command.callback is not None and not isinstance(command, click.Group):
            words = [*ctx.command_path.split()[1:], args[0]]
            kept = _kept(words, command.callback)
            command = copy.copy(command)
            command.callback = kept
            if ctx.resilient_parsing and callable(ctx.obj):
                ctx.obj(command, " ".join(words))
        return name, command, rest


def check(words: Sequence[str]) -> None:
    """Raise CommandError when a service is chosen and the command is refused then."""
    name = " ".join(words)
    if PLACES[name] != "refused":
        return
    from cli.remote.choice import chosen_server  # `--help`, and commands that ask by themselves, do not need it

    url = chosen_server()
    if url is not None:
        raise CommandError(
            f"shiplap {name} works on this machine, and {_chosen_by()} chooses {url}",
            hint=f"shiplap --host local {name} … does it here",
        )


def _chosen_by() -> str:
    from cli.remote.choice import host_option
    from core.settings import RemoteSettings

    if host_option() is not None:
        return "--host"
    return "SHIPLAP_HOST" if RemoteSettings.from_environ().host else "the context that is in use"


def _kept(words: Sequence[str], callback: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*args: Any, **kwargs: Any) -> Any:
        check(words)
        return callback(*args, **kwargs)

    return checked
