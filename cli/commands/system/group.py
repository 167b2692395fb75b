"""``shiplap system``: the group."""

from __future__ import annotations

import click

from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "df": LazyCommand("cli.commands.system.df", "Show what takes the disk: images, containers, volumes, cache."),
    "prune": LazyCommand("cli.commands.system.prune", "Remove what nothing uses: containers, images, cache."),
    "info": LazyCommand("cli.commands.info", "Show what this engine has, and what this host offers."),
    "events": LazyCommand("cli.commands.events", "Show what happens to containers, and to volumes and networks."),
    "dial-stdio": LazyCommand("cli.commands.system.dial_stdio", "Join input and output to the engine's API."),
    "forward": LazyCommand("cli.commands.system.forward", "Reach another host's engine by your token of a service."),
}


@click.group("system", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Look after what the engine keeps."""
