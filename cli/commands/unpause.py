"""``shiplap unpause``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import for_all, opened


@container_command("unpause")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.pass_obj
def command(root: str | None, *, names: Sequence[str]) -> int:
    """Let the processes of paused containers go on."""
    with opened(root) as engine:
        return for_all(names, engine.unpause)
