"""``shiplap system df``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from cli.containers.command import container_command
from cli.containers.formats import Listing, Row, format_option
from cli.containers.opening import opened
from cli.containers.rows import CONTAINERS, VOLUMES, container_row, volume_row
from cli.options import json_option
from cli.progress.text import size_text
from cli.table import print_json

_USAGE = Listing(
    {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"},
    ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
    "Type",
    "*formatter.diskUsageContext",
)


@container_command("df")
@click.option("-v", "--verbose", is_flag=True, help="Each container and volume.")
@format_option
@json_option
@click.pass_obj
def command(root: str | None, *, verbose: bool, form: str, as_json: bool) -> None:
    """Show what takes the disk: images, containers, volumes, cache.

    image ls and cache ls show the single images and records.
    """
    with opened(root) as engine:
        usage = engine.disk_usage()
    if as_json:
        print_json(usage)
        return
    if not verbose:
        click.echo(_USAGE.lines(_rows(usage), form), nl=False)
        return
    columns = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    containers = [container_row(one) for one in usage["Containers"]]
    click.echo("Containers space usage:\n")
    click.echo(CONTAINERS._replace(table=columns).lines(containers))
    click.echo("Local Volumes space usage:\n")
    click.echo(VOLUMES._replace(table=("Name", "Links", "Size")).lines(map(volume_row, usage["Volumes"])), nl=False)


def _rows(usage: Mapping[str, Any]) -> list[Row]:
    images, containers, volumes = usage["Images"], usage["Containers"], usage["Volumes"]
    cache = usage["BuildCache"]
    used = [one for one in images if one["Containers"] > 0]
    running = [one for one in containers if one["State"] in ("running", "paused", "restarting")]
    mounted = [one for one in volumes if one["UsageData"]["RefCount"] > 0]
    busy = [one for one in cache if one["InUse"]]
    layers = usage["LayersSize"]
    space, mounted_space = _volume_bytes(volumes), _volume_bytes(mounted)
    written = sum(one.get("SizeRw") or 0 for one in containers)
    held = sum(one.get("SizeRw") or 0 for one in running)
    return [
        _row("Images", images, used, layers, max(0, layers - _bytes(used, "Size"))),
        _row("Containers", containers, running, written, written - held),
        _row("Local Volumes", volumes, mounted, space, space - mounted_space),
        _row("Build Cache", cache, busy, _bytes(cache, "Size"),
             sum(one["Size"] for one in cache if not one["InUse"] and not one["Shared"])),
    ]  # fmt: skip


def _row(kind: str, every: list[Any], active: list[Any], size: int, reclaimable: int) -> Row:
    share = f" ({reclaimable * 100 // size}%)" if size and kind != "Build Cache" else ""
    return {
        "Type": kind,
        "TotalCount": str(len(every)),
        "Active": str(len(active)),
        "Size": size_text(size),
        "Reclaimable": size_text(reclaimable) + share,
    }


def _bytes(things: Iterable[Mapping[str, Any]], member: str) -> int:
    return sum(thing[member] for thing in things)


def _volume_bytes(volumes: Iterable[Mapping[str, Any]]) -> int:
    return sum(max(0, volume["UsageData"]["Size"]) for volume in volumes)
