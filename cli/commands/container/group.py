"""``shiplap container``: the group."""

from __future__ import annotations

import click

from cli.containers.table import COMMANDS
from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "ls": COMMANDS["ps"],
    "inspect": LazyCommand("cli.commands.container.inspect", "Show all about containers, as JSON."),
    "prune": LazyCommand("cli.commands.container.prune", "Remove all containers that do not run."),
    "list": COMMANDS["ps"]._replace(hidden=True),
    **{name: entry._replace(hidden=True) for name, entry in COMMANDS.items()},  # docker's words
}
_OTHERS = "The commands at the top work here, too, as docker's do: shiplap container run, stop, rm, …"


@click.group("container", cls=LazyGroup, lazy=_COMMANDS, epilog=_OTHERS)
def command() -> None:
    """Manage containers."""
