"""``shiplap start``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import as_it_was, opened_to_start
from cli.errors import CommandError, describe
from cli.guarding import for_each, say
from core.errors import ShiplapError


@container_command("start")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.option("-a", "--attach", is_flag=True, help="Attach its output, and pass signals on.")
@click.option("-i", "--interactive", is_flag=True, help="Attach its input.")
@click.option("--detach-keys", metavar="KEYS", default="", help="Keys that detach.  [default: ctrl-p,ctrl-q]")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], attach: bool, interactive: bool, detach_keys: str) -> int:
    """Start containers.

    With -a or -i the exit code is the container's.
    """
    with opened_to_start(root) as engine:
        if attach or interactive:
            if len(names) > 1:
                raise CommandError("you cannot start and attach multiple containers at once")
            return _attached(engine, names[0], interactive=interactive, keys=detach_keys)

        def start(name: str) -> None:
            with as_it_was():
                engine.start(name)
            click.echo(name)

        return for_each(names, start)


def _attached(engine: Engine, name: str, *, interactive: bool, keys: str) -> int:
    from cli.containers.attaching import Streams, attached

    document = engine.inspect(name)
    config = document["Config"]
    if interactive and config["Tty"]:
        _check_terminal()
    streams = Streams(
        stdin=interactive and config["OpenStdin"], stdout=True, stderr=True, terminal=config["Tty"], keys=keys,
        passes_signals=not config["Tty"],
    )  # fmt: skip
    try:
        return attached(
            engine, document["Id"], streams, start=lambda: engine.start(document["Id"]),
            until_removed=document["HostConfig"]["AutoRemove"],
        ).code  # fmt: skip
    except ShiplapError as error:
        say(describe(error))
        return 1


def _check_terminal() -> None:
    import sys

    if not sys.stdin.isatty():
        raise CommandError("the input device is not a TTY")


TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.engine import Engine
