"""``shiplap diff``."""

from __future__ import annotations

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.listing import shown


@container_command("diff")
@click.argument("name", metavar="CONTAINER")
@click.pass_obj
def command(root: str | None, *, name: str) -> None:
    """Show what a container changed in its root file system.

    A is what it added, C what it changed, D what it deleted.
    """
    with opened(root) as engine:
        for change in engine.changes(name):
            click.echo(shown(f"{change.kind} {change.path}"))
