"""``shiplap network create``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
@click.option("--scope", metavar="SCOPE", default="", help="Only local is there.")
@click.option(
    "--ip-range",
    "ranges",
    metavar="CIDR",
    multiple=True,
    help="The part of a --subnet that addresses are given out from.",
)
@click.option(
    "--aux-address", "auxiliary", metavar="NAME=ADDRESS", multiple=True, help="An address that no container gets."
)
@click.option("--ipam-driver", metavar="DRIVER", default="default", help="Only default is there.")
@click.option("--ipam-opt", "ipam_options", metavar="NAME=VALUE", multiple=True, help="Refused: it is for drivers.")
@click.option("--config-only", is_flag=True, help="Refused: no network configures another.")
@click.option("--config-from", metavar="NETWORK", default="", help="Refused, as --config-only.")
@click.option("--ingress", is_flag=True, help="Refused: it is for swarms.")
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
    scope: str,
    ranges: Sequence[str],
    auxiliary: Sequence[str],
    ipam_driver: str,
    ipam_options: Sequence[str],
    config_only: bool,
    config_from: str,
    ingress: bool,
) -> None:
    """Make a network.

    Containers in it reach each other by their names. Prints its ID.
    """
    body = {
        "Name": name,
        "Driver": driver,
        "Internal": internal,
        "EnableIPv6": ipv6,
        "Attachable": attachable,
        "Labels": pairs(labels, "--label"),
        "Options": pairs(driver_options, "--opt"),
        "Scope": scope,
        "ConfigOnly": config_only,
        "ConfigFrom": {"Network": config_from} if config_from else None,
        "Ingress": ingress,
        "IPAM": {
            "Driver": ipam_driver,
            "Options": pairs(ipam_options, "--ipam-opt"),
            "Config": _pools(subnets, gateways, ranges, auxiliary),
        },
    }
    with opened(root) as engine:
        click.echo(engine.networks.create(body)["Id"])


def _pools(
    subnets: Sequence[str], gateways: Sequence[str], ranges: Sequence[str], auxiliary: Sequence[str]
) -> list[dict[str, Any]]:
    """Docker's ``IPAM.Config``: to each subnet what lies in it. Raises CommandError."""
    if max(len(gateways), len(ranges)) > len(subnets):
        raise CommandError("every ip-range or gateway must have a corresponding subnet", hint="--subnet")
    pools: list[dict[str, Any]] = [{"Subnet": subnet} for subnet in subnets]
    for member, word, texts in (("Gateway", "gateway", gateways), ("IPRange", "range", ranges)):
        for text in texts:
            pool = _pool_of(pools, text, word)
            if member in pool:
                raise CommandError(f"cannot configure multiple {word}s ({text}, {pool[member]}) on the same subnet")
            pool[member] = text
    for name, address in pairs(auxiliary, "--aux-address").items():
        _pool_of(pools, address, "aux-address").setdefault("AuxiliaryAddresses", {})[name] = address
    return pools


def _pool_of(pools: list[dict[str, Any]], text: str, word: str) -> dict[str, Any]:
    """The pool whose subnet has an address, or a range of addresses. Raises CommandError."""
    import ipaddress

    try:
        wanted = ipaddress.ip_interface(text).ip
        found = [pool for pool in pools if wanted in ipaddress.ip_network(pool["Subnet"], strict=False)]
    except ValueError as error:
        raise CommandError(f"{error}") from error
    if not found:
        raise CommandError(f"no matching subnet for {word} {text}", hint="--subnet")
    return found[0]
