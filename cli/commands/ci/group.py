"""``shiplap ci``: the group."""

from __future__ import annotations

import click

from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "run": LazyCommand("cli.commands.ci.run", "Run the repository's jobs here, from the working tree."),
    "why": LazyCommand("cli.commands.ci.why", "Say why a job would run, or whose result it has."),
    "lint": LazyCommand("cli.commands.ci.lint", "Say what is wrong with pipeline files."),
    "graph": LazyCommand("cli.commands.ci.graph", "Show which jobs an event would run, and what they wait for."),
    "convert": LazyCommand("cli.commands.ci.convert", "Write another system's pipeline anew, as one of Shiplap's."),
    "schema": LazyCommand("cli.commands.ci.schema", "Print the JSON Schema of pipeline files, for editors."),
}


@click.group("ci", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Run and look after the pipelines of a repository."""
