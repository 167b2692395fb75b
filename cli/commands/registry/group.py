"""``shiplap registry``: the group."""

from __future__ import annotations

import click

from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "serve": LazyCommand("cli.commands.registry.serve", "Serve a registry, for docker and everyone else."),
    "ls": LazyCommand("cli.commands.registry.ls", "List repositories, with their tags and sizes."),
    "gc": LazyCommand("cli.commands.registry.gc", "Collect garbage now, by the rules of the configuration."),
    "user": LazyCommand("cli.commands.registry.user", "Manage users and their rights."),
    "token": LazyCommand("cli.commands.registry.token", "Manage access tokens: passwords for machines."),
}


@click.group("registry", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Serve a registry, and manage it."""
