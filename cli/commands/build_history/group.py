"""``shiplap build history``: the group."""

from __future__ import annotations

import click

from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "ls": LazyCommand("cli.commands.build_history.ls", "List builds, the newest first."),
    "inspect": LazyCommand("cli.commands.build_history.inspect", "Show what a build was, and how it ended."),
    "logs": LazyCommand("cli.commands.build_history.logs", "Print what a build showed."),
    "rm": LazyCommand("cli.commands.build_history.rm", "Forget builds."),
}


@click.group("history", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Look at the builds that were made here.

    The last 300 of each root are kept, for its user alone, with what they showed. A BUILD is an ID of 'ls' or the
    beginning of one; '^1' is the one before the last. Values of build arguments and of secrets are not kept.
    """
