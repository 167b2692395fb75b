"""``shiplap exec``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.errors import CommandError, describe
from cli.guarding import say
from cli.options import env_file, environ, pairs
from containers.errors import ContainerError, KeeperError, NotExecutedError
from containers.keeper.protocol import BEGIN_TIMEOUT_S

_CANNOT_BE_EXECUTED = 126


@container_command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("name", metavar="CONTAINER")
@click.argument("first", metavar="COMMAND", type=click.UNPROCESSED)
@click.argument("arguments", metavar="[ARGUMENT...]", nargs=-1, type=click.UNPROCESSED)
@click.option("-d", "--detach", is_flag=True, help="Do not stay with it.")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-e", "--env", metavar="NAME[=VALUE]", multiple=True, help="Set a variable; without =VALUE, ours.")
@click.option("--env-file", "env_files", metavar="FILE", multiple=True, help="Set the variables in this file.")
@click.option("-w", "--workdir", metavar="DIR", help="The working directory.  [default: the container's]")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="The user.  [default: the container's]")
@click.option("--privileged", is_flag=True, help="All capabilities of the container's user namespace.")
@click.option("--detach-keys", metavar="KEYS", default="", help="Keys that detach.  [default: ctrl-p,ctrl-q]")
@click.pass_obj
def command(
    root: str | None,
    /,
    *,
    name: str,
    first: str,
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
    """Run a command in a running container.

    The exit code is the command's; 126 when it cannot be executed, 127 when it is not found.

    \b
    shiplap exec -it web sh
    """
    from cli.containers.attaching import Streams, joined

    if tty and interactive and not detach and not sys.stdin.isatty():
        raise CommandError("the input device is not a TTY")
    variables: dict[str, str] = {}
    for path in env_files:
        variables |= env_file(path, environ())
    variables |= pairs(env, "-e", environ=environ())
    if tty:
        variables.setdefault("TERM", "xterm")
    asked = {
        "args": [first, *arguments],
        "env": list(variables.items()),
        "user": user,
        "cwd": workdir,
        "terminal": tty,
        "privileged": privileged,
    }
    with opened(root) as engine:
        document = engine.inspect(name)
        state = document["State"]
        if not state["Running"]:
            raise CommandError(f"container {document['Id']} is not running")
        if state["Paused"]:
            raise CommandError(f"Container {name} is paused, unpause the container before exec")
        try:
            with engine.keepers.connect(document["Id"]) as keeper:
                if detach:
                    keeper.ask("exec", {**asked, "stdin": False}, timeout_s=BEGIN_TIMEOUT_S)
                    return 0
                streams = Streams(interactive, stdout=True, stderr=True, terminal=tty, keys=detach_keys)
                with engine.keepers.connect(document["Id"]) as control:
                    return joined(keeper, control, asked, streams).code
        except KeeperError:
            raise
        except ContainerError as error:
            say(describe(error))
            return error.code if isinstance(error, NotExecutedError) else _CANNOT_BE_EXECUTED
