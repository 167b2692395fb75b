"""``shiplap network connect``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.networks import link_pairs
from cli.containers.opening import opened
from cli.options import pairs


@container_command("connect")
@click.argument("network", metavar="NETWORK")
@click.argument("container", metavar="CONTAINER")
@click.option("--ip", metavar="ADDRESS", default="", help="Its address there.  [default: the first that is free]")
@click.option("--ip6", metavar="ADDRESS", default="", help="Its IPv6 address there.")
@click.option("--link-local-ip", "link_local", metavar="ADDRESS", multiple=True, help="Refused: they are the host's.")
@click.option("--alias", "aliases", metavar="NAME", multiple=True, help="One more name of it there.")
@click.option("--link", "links", metavar="NAME[:ALIAS]", multiple=True, help="Another container, by a name of its own.")
@click.option("--gw-priority", "priority", metavar="N", default=0, type=int, help="The way out goes by the highest.")
@click.option("--driver-opt", "driver_options", metavar="NAME=VALUE", multiple=True, help="Refused: there are none.")
@click.pass_obj
def command(
    root: str | None,
    *,
    network: str,
    container: str,
    ip: str,
    ip6: str,
    link_local: Sequence[str],
    aliases: Sequence[str],
    links: Sequence[str],
    priority: int,
    driver_options: Sequence[str],
) -> None:
    """Connect a container to one more network."""
    addresses = {"IPv4Address": ip, "IPv6Address": ip6, "LinkLocalIPs": list(link_local)}
    settings = {
        "Aliases": list(aliases),
        "Links": link_pairs(links),
        "GwPriority": priority,
        "DriverOpts": pairs(driver_options, "--driver-opt"),
        "IPAMConfig": addresses if any(addresses.values()) else None,
    }
    with opened(root) as engine:
        engine.connect(network, container, settings)
