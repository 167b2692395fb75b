"""``shiplap network connect``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import opened


@container_command("connect")
@click.argument("network", metavar="NETWORK")
@click.argument("container", metavar="CONTAINER")
@click.option("--ip", metavar="ADDRESS", default="", help="Its address there.  [default: the first that is free]")
@click.option("--alias", "aliases", metavar="NAME", multiple=True, help="One more name of it there.")
@click.pass_obj
def command(root: str | None, *, network: str, container: str, ip: str, aliases: Sequence[str]) -> None:
    """Connect a container to one more network."""
    settings = {"Aliases": list(aliases), "IPAMConfig": {"IPv4Address": ip} if ip else None}
    with opened(root) as engine:
        engine.connect(network, container, settings)
