"""``shiplap rename``."""

from __future__ import annotations

import click

from cli.containers.command import container_command
from cli.containers.opening import opened


@container_command("rename")
@click.argument("name", metavar="CONTAINER")
@click.argument("new", metavar="NAME")
@click.pass_obj
def command(root: str | None, *, name: str, new: str) -> None:
    """Give a container another name."""
    with opened(root) as engine:
        engine.rename(name, new)
