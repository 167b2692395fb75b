"""``shiplap network disconnect``."""

from __future__ import annotations

import click

from cli.containers.command import container_command
from cli.containers.opening import opened


@container_command("disconnect")
@click.argument("network", metavar="NETWORK")
@click.argument("container", metavar="CONTAINER")
@click.option("-f", "--force", is_flag=True, help="Also when its keeper does not answer.")
@click.pass_obj
def command(root: str | None, *, network: str, container: str, force: bool) -> None:
    """Take a container out of a network."""
    with opened(root) as engine:
        engine.disconnect(network, container, force=force)
