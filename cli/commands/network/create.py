"""``shiplap network create``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.errors import CommandError
from cli.options import pairs


@container_command("create")
@click.argument("name", metavar="NETWORK")
@click.option("-d", "--driver", metavar="DRIVER", default="bridge", help="Only bridge is there.")
@click.option("--internal", is_flag=True, help="No way out of it, and no published ports.")
@click.option("--ipv6", is_flag=True, help="Addresses of IPv6, too: of --subnet, or of a prefix of its own.")
@click.option("--subnet", "subnets", metavar="CIDR", multiple=True, help="Its addresses, as 10.1.2.0/24 or fd12::/64.")
@click.option("--gateway", "gateways", metavar="ADDRESS", multiple=True, help="The switch's address in it.")
@click.option("--label", "labels", metavar="NAME[=VALUE]", multiple=True, help="Set a label.")
@click.option("-o", "--opt", "driver_options", metavar="NAME=VALUE", multiple=True, help="An option of the driver.")
@click.option("--attachable", is_flag=True, help="As every network is.")
@click.pass_obj
def command(
    root: str | None,
    *,
    name: str,
    driver: str,
    internal: bool,
    ipv6: bool,
    subnets: Sequence[str],
    gateways: Sequence[str],
    labels: Sequence[str],
    driver_options: Sequence[str],
    attachable: bool,
) -> None:
    """Make a network.

    Containers in it reach each other by their names. Prints its ID.
    """
    if len(gateways) > len(subnets):
        raise CommandError("every --gateway needs a --subnet of its own")
    gateways = [*gateways, *[""] * (len(subnets) - len(gateways))]
    body = {
        "Name": name,
        "Driver": driver,
        "Internal": internal,
        "EnableIPv6": ipv6,
        "Attachable": attachable,
        "Labels": pairs(labels, "--label"),
        "Options": pairs(driver_options, "--opt"),
        "IPAM": {
            "Config": [
                {"Subnet": subnet, "Gateway": gateway} for subnet, gateway in zip(subnets, gateways, strict=True)
            ]
        },
    }
    with opened(root) as engine:
        click.echo(engine.networks.create(body)["Id"])
