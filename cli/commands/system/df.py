"""``shiplap system df``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from cli.containers.command import container_command
from cli.containers.imagerows import IMAGES
from cli.containers.opening import opened
from cli.containers.rows import CONTAINERS, VOLUMES, container_row, volume_row
from cli.listing import Listing, Row, format_option
from cli.options import json_option
from cli.progress.text import size_text
from cli.table import age, print_json
from images.oci import parse_time

_USAGE = Listing(
    {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"},
    ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
    "Type",
    "*formatter.diskUsageContext",
)
_IMAGES = IMAGES._replace(
    table=("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
)
_CACHE = Listing(
    {
        "ID": "CACHE ID",
        "CacheType": "CACHE TYPE",
        "Size": "SIZE",
        "CreatedSince": "CREATED",
        "LastUsedSince": "LAST USED",
        "UsageCount": "USAGE",
        "Shared": "SHARED",
    },
    ("ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared"),
    "ID",
    "*formatter.buildCacheContext",
)
_SHORT = 12


@container_command("df")
@click.option("-v", "--verbose", is_flag=True, help="Each image, container, volume and record of the cache.")
@format_option
@json_option
@click.pass_obj
def command(root: str | None, *, verbose: bool, form: str, as_json: bool) -> None:
    """Show what takes the disk: images, containers, volumes, cache."""
    with opened(root) as engine:
        usage = engine.disk_usage()
    if as_json:
        print_json(usage)
        return
    if not verbose:
        _USAGE.print(_rows(usage), form)
        return
    columns = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    cache = usage["BuildCache"]
    for title, listing, rows in (
        ("Images space usage", _IMAGES, [row for one in usage["Images"] for row in _image_rows(one)]),
        ("Containers space usage", CONTAINERS._replace(table=columns), map(container_row, usage["Containers"])),
        ("Local Volumes space usage", VOLUMES._replace(table=("Name", "Links", "Size")),
         map(volume_row, usage["Volumes"])),
        (f"Build cache usage: {size_text(_bytes(cache, 'Size'))}", _CACHE, map(_cache_row, cache)),
    ):  # fmt: skip
        colon = "" if listing is _CACHE else ":"
        click.echo(f"{title}{colon}\n")
        listing.print(rows)
        click.echo()


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


def _image_rows(document: Mapping[str, Any]) -> Iterator[Row]:
    """A row for each name of an image; one for an image without names."""
    row = {
        "ID": document["Id"].removeprefix("sha256:")[:_SHORT],
        "CreatedSince": age(max(0.0, time.time() - document["Created"])),
        "Size": size_text(document["Size"]),
        "SharedSize": size_text(document["SharedSize"]),
        "UniqueSize": size_text(document["Size"] - document["SharedSize"]),
        "Containers": str(document["Containers"]),
    }
    for name in document["RepoTags"] or ["<none>:<none>"]:
        repository, _, tag = name.rpartition(":")
        yield {"Repository": repository, "Tag": tag, **row}


def _cache_row(document: Mapping[str, Any]) -> Row:
    now = time.time()
    created, used = (max(0.0, now - parse_time(document[member])) for member in ("CreatedAt", "LastUsedAt"))
    return {
        "ID": document["ID"][:_SHORT],
        "CacheType": document["Type"],
        "Size": size_text(document["Size"]),
        "CreatedSince": age(created),
        "LastUsedSince": age(used),
        "UsageCount": str(document["UsageCount"]),
        "Shared": str(document["Shared"]).lower(),
    }


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
