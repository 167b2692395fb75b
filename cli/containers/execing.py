"""``exec`` without click: its options, and what it does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

from cli.containers.opening import opened
from cli.declared import Argument, Command, Option
from cli.errors import CommandError, describe
from cli.guarding import say
from cli.options import env_file, environ, pairs
from containers.errors import ContainerError, KeeperError, NotExecutedError
from containers.keeper.protocol import BEGIN_TIMEOUT_S

_CANNOT_BE_EXECUTED: Final = 126

OPTIONS: Final = (
    Option(("-d", "--detach"), "Do not stay with it.", flag=True),
    Option(("-i", "--interactive"), "Pass standard input.", flag=True),
    Option(("-t", "--tty"), "Give it a terminal.", flag=True),
    Option(("-e", "--env"), "Set a variable; without =VALUE, ours.", metavar="NAME[=VALUE]", multiple=True),
    Option(("--env-file",), "Set the variables in this file.", metavar="FILE", dest="env_files", multiple=True),
    Option(("-w", "--workdir"), "The working directory.  [default: the container's]", metavar="DIR"),
    Option(("-u", "--user"), "The user.  [default: the container's]", metavar="USER[:GROUP]"),
    Option(("--privileged",), "All capabilities of the container's user namespace.", flag=True),
    Option(("--detach-keys",), "Keys that detach.  [default: ctrl-p,ctrl-q]", metavar="KEYS", default=""),
)


def execute(
    root: str | None,
    /,
    *,
    name: str,
    arguments: Sequence[str],
    detach: bool,
    interactive: bool,
    tty: bool,
    env: Sequence[str],
    env_files: Sequence[str],
    workdir: str | None,
    user: str | None,
    privileged: bool,
    detach_keys: str,
) -> int:
    """Run a command in a running container; the exit code. Raises ShiplapErrors."""
    from cli.containers.attaching import Streams, joined

    if tty and interactive and not detach and not sys.stdin.isatty():
        raise CommandError("the input device is not a TTY")
    variables: dict[str, str] = {}
    for path in env_files:
        variables |= env_file(path, environ())
    variables |= pairs(env, "-e", environ=environ())
    if tty:
        variables.setdefault("TERM", "xterm")
    asked: dict[str, Any] = {
        "args": list(arguments),
        "env": list(variables.items()),
        "user": user,
        "cwd": workdir,
        "terminal": tty,
        "privileged": privileged,
    }
    with opened(root) as engine:
        identity = engine.records.container(name).id
        state = engine.state(identity)
        if not state.is_up or state.status == "starting":
            raise CommandError(f"container {identity} is not running")
        if state.status == "paused":
            raise CommandError(f"Container {name} is paused, unpause the container before exec")
        try:
            with engine.keepers.connect(identity) as keeper:
                if detach:
                    keeper.ask("exec", {**asked, "stdin": False}, timeout_s=BEGIN_TIMEOUT_S)
                    return 0
                streams = Streams(interactive, stdout=True, stderr=True, terminal=tty, keys=detach_keys)
                with engine.keepers.connect(identity) as control:
                    return joined(keeper, control, asked, streams).code
        except KeeperError:
            raise
        except ContainerError as error:
            say(describe(error))
            return error.code if isinstance(error, NotExecutedError) else _CANNOT_BE_EXECUTED


declared_command: Final = Command("exec", (Argument("name", "CONTAINER"),), OPTIONS, execute, rest="arguments", least=1)
