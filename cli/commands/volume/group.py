"""``shiplap volume``: the group."""

from __future__ import annotations

import click

from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "create": LazyCommand("cli.commands.volume.create", "Make a volume."),
    "ls": LazyCommand("cli.commands.volume.ls", "List volumes."),
    "list": LazyCommand("cli.commands.volume.ls", "List volumes.", hidden=True),
    "inspect": LazyCommand("cli.commands.volume.inspect", "Show all about volumes, as JSON."),
    "rm": LazyCommand("cli.commands.volume.rm", "Remove volumes that no container uses."),
    "remove": LazyCommand("cli.commands.volume.rm", "Remove volumes that no container uses.", hidden=True),
    "prune": LazyCommand("cli.commands.volume.prune", "Remove the anonymous volumes that no container uses."),
}


@click.group("volume", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Manage volumes."""
