"""``shiplap cache``: the group."""

from __future__ import annotations

import click

from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "ls": LazyCommand("cli.commands.cache.ls", "List what the build cache holds, the least recently used first."),
    "du": LazyCommand("cli.commands.cache.du", "Show what the build cache takes on disk."),
    "rm": LazyCommand("cli.commands.cache.rm", "Remove items of the build cache by their IDs."),
    "prune": LazyCommand(
        "cli.commands.cache.prune",
        "Remove what the build cache holds: layers of steps, cache mounts, caches of jobs, mirrors, snapshots.",
    ),
}


@click.group("cache", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Look after the build cache."""
