"""``shiplap runs``: the group."""

from __future__ import annotations

import click

from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "ls": LazyCommand("cli.commands.runs.ls", "List the runs of a server, the newest first."),
    "show": LazyCommand("cli.commands.runs.show", "Show a run with its steps or its jobs."),
    "jobs": LazyCommand("cli.commands.runs.jobs", "List the jobs of a run."),
    "logs": LazyCommand("cli.commands.runs.logs", "Print a run's log, or that of one of its jobs."),
    "watch": LazyCommand("cli.commands.runs.watch", "Show what becomes of a run's jobs until it has ended."),
    "open": LazyCommand("cli.commands.runs.open", "Open the page of a run, or of one of its jobs, in a browser."),
    "outputs": LazyCommand("cli.commands.runs.outputs", "List what jobs of a run output for people, or bring it here."),
    "shell": LazyCommand("cli.commands.runs.shell", "Open a shell in a job that runs, or in what a failed one left."),
    "approve": LazyCommand("cli.commands.runs.approve", "Let a gate of a run open, so that the jobs after it go on."),
    "refuse": LazyCommand("cli.commands.runs.refuse", "Let a gate of a run fail, so that what needs it is skipped."),
    "cancel": LazyCommand("cli.commands.runs.cancel", "Cancel runs, or jobs of a run."),
    "retry": LazyCommand("cli.commands.runs.retry", "Run again what a run was, or some of its jobs."),
}


@click.group("runs", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Look after the runs of a build service."""
