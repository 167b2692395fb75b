"""``shiplap network rm``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import for_all, opened


@container_command("rm")
@click.argument("names", metavar="NETWORK...", nargs=-1, required=True)
@click.pass_obj
def command(root: str | None, *, names: Sequence[str]) -> int:
    """Remove networks that no container is in."""
    with opened(root) as engine:
        return for_all(names, engine.remove_network)
