"""``shiplap kill``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import for_all, opened


@container_command("kill")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.option("-s", "--signal", metavar="SIGNAL", default="KILL", help="By name or number.  [default: KILL]")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], signal: str) -> int:
    """Send a signal to the first process of containers."""
    with opened(root) as engine:
        return for_all(names, lambda name: engine.kill(name, signal))
