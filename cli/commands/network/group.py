"""``shiplap network``: the group."""

from __future__ import annotations

import click

from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "create": LazyCommand("cli.commands.network.create", "Make a network."),
    "ls": LazyCommand("cli.commands.network.ls", "List networks."),
    "list": LazyCommand("cli.commands.network.ls", "List networks.", hidden=True),
    "inspect": LazyCommand("cli.commands.network.inspect", "Show all about networks, as JSON."),
    "connect": LazyCommand("cli.commands.network.connect", "Connect a container to one more network."),
    "disconnect": LazyCommand("cli.commands.network.disconnect", "Take a container out of a network."),
    "rm": LazyCommand("cli.commands.network.rm", "Remove networks that no container is in."),
    "remove": LazyCommand("cli.commands.network.rm", "Remove networks that no container is in.", hidden=True),
    "prune": LazyCommand("cli.commands.network.prune", "Remove all networks that no container is in."),
}


@click.group("network", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Manage networks."""
