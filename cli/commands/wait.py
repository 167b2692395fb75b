"""``shiplap wait``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.guarding import for_each


@container_command("wait")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.pass_obj
def command(root: str | None, *, names: Sequence[str]) -> int:
    """Wait until containers have ended, and print their exit codes."""
    with opened(root) as engine:
        return for_each(names, lambda name: click.echo(engine.wait(name)))
