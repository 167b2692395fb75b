"""``shiplap context``: the group."""

from __future__ import annotations

import click

from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "ls": LazyCommand("cli.commands.context.ls", "List the servers that have names."),
    "add": LazyCommand("cli.commands.context.add", "Give a server a name."),
    "use": LazyCommand("cli.commands.context.use", "Choose where builds go: a server, or 'local' for this machine."),
    "rm": LazyCommand("cli.commands.context.rm", "Forget servers."),
}


@click.group("context", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Manage the build services that this user works with."""
