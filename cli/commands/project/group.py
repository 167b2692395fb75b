"""``shiplap project``: the group."""

from __future__ import annotations

import click

from cli.lazy import LazyCommand, LazyGroup

_COMMANDS = {
    "add": LazyCommand("cli.commands.project.add", "Make a project, and a webhook if it has a repository."),
    "set": LazyCommand("cli.commands.project.set", "Change a project's settings; what is not given stays."),
    "ls": LazyCommand("cli.commands.project.ls", "List projects."),
    "show": LazyCommand("cli.commands.project.show", "Show a project's settings, as JSON."),
    "archive": LazyCommand(
        "cli.commands.project.archive",
        "Archive a project: it takes no pushes, no images and no runs, and is in no list of projects.",
    ),
    "unarchive": LazyCommand("cli.commands.project.unarchive", "Make an archived project one like others again."),
    "rm": LazyCommand("cli.commands.project.rm", "Remove a project with its runs, logs, deliveries and secrets."),
    "member": LazyCommand("cli.commands.project.member", "Say who may what in a project."),
    "hook": LazyCommand("cli.commands.project.hook", "Manage a project's webhook: secret, deliveries, approvals."),
}


@click.group("project", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """Manage what a build service builds when something is pushed.

    Patterns are written as in .dockerignore: the last one that fits decides, '!' in front means not.
    """
