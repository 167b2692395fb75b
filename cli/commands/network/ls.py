"""``shiplap network ls``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.filters import filter_option, read_filters
from cli.containers.opening import opened
from cli.containers.rows import NETWORKS, network_row
from cli.listing import format_option
from cli.options import json_option
from cli.table import print_json


@container_command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@click.option("--no-trunc", is_flag=True, help="Print whole IDs.")
@filter_option
@format_option
@json_option
@click.pass_obj
def command(root: str | None, *, quiet: bool, no_trunc: bool, filters: Sequence[str], form: str, as_json: bool) -> None:
    """List networks.

    Filters are docker's: dangling, driver, id, label, name, scope, type.
    """
    wanted = read_filters(filters)
    with opened(root) as engine:
        networks = engine.networks.listed(wanted)
    if as_json:
        print_json(networks)
        return
    rows = [network_row(each, no_trunc=no_trunc) for each in sorted(networks, key=lambda one: one["Name"])]
    NETWORKS.print(rows, form, quiet=quiet, whole=no_trunc)
