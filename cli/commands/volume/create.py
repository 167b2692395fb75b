"""``shiplap volume create``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.errors import CommandError
from cli.options import pairs


@container_command("create")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--name", "old_name", metavar="NAME", hidden=True, help="As docker's of old.")
@click.option("-d", "--driver", metavar="DRIVER", default="local", help="Only local is there.")
@click.option("-l", "--label", "labels", metavar="NAME[=VALUE]", multiple=True, help="Set a label.")
@click.option("-o", "--opt", "driver_options", metavar="NAME=VALUE", multiple=True, help="An option of the driver.")
@click.pass_obj
def command(
    root: str | None,
    *,
    name: str | None,
    old_name: str | None,
    driver: str,
    labels: Sequence[str],
    driver_options: Sequence[str],
) -> None:
    """Make a volume.

    Prints its name; without NAME it is anonymous.
    """
    if name and old_name:
        raise CommandError("conflicting options: either specify --name or provide positional arg, not both")
    body = {
        "Name": name or old_name or "",
        "Driver": driver,
        "Labels": pairs(labels, "--label"),
        "DriverOpts": pairs(driver_options, "--opt"),
    }
    with opened(root) as engine:
        click.echo(engine.volumes.create(body)["Name"])
