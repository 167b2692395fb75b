"""``shiplap volume ls``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.filters import filter_option, read_filters
from cli.containers.opening import opened
from cli.containers.rows import VOLUMES, volume_row
from cli.listing import format_option
from cli.options import json_option
from cli.table import print_json


@container_command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
@filter_option
@format_option
@json_option
@click.pass_obj
def command(root: str | None, *, quiet: bool, filters: Sequence[str], form: str, as_json: bool) -> None:
    """List volumes.

    Filters are docker's: dangling, driver, label, name.
    """
    wanted = read_filters(filters)
    with opened(root) as engine:
        volumes = engine.volumes.listed(wanted)["Volumes"]
    if as_json:
        print_json(volumes)
        return
    rows = [volume_row(volume) for volume in sorted(volumes, key=lambda one: one["Name"])]
    VOLUMES.print(rows, form, quiet=quiet)
