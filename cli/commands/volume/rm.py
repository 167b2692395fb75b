"""``shiplap volume rm``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import for_all, opened


@container_command("rm")
@click.argument("names", metavar="VOLUME...", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="One that is not there is no error.")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], force: bool) -> int:
    """Remove volumes that no container uses."""
    with opened(root) as engine:
        return for_all(names, lambda name: engine.volumes.remove(name, force=force))
