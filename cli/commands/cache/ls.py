"""``shiplap cache ls``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.commands.cache.filters import parse_filters
from cli.listing import Listing, Row, format_option
from cli.options import json_option
from cli.progress.text import cut, one_line, size_text
from cli.store import open_store
from cli.table import age, print_json, rfc3339

if TYPE_CHECKING:
    from images.cacheuse import CacheItem

_DESCRIPTION_WIDTH = 60
_ITEMS = Listing(
    {
        "ID": "ID",
        "Type": "TYPE",
        "Description": "STEP",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "LastUsedSince": "LAST USED",
        "LastUsedAt": "LAST USED AT",
        "Size": "SIZE",
        "Shared": "SHARED",
        "InUse": "IN USE",
    },
    ("ID", "Type", "Description", "CreatedSince", "LastUsedSince", "Size", "Shared", "InUse"),
    "ID",
    "item of the cache",
    least=0,
)


@click.command("ls")
@click.option(
    "--filter", "filters", metavar="FILTER", multiple=True, help="As docker's: until=24h, type=mount, inuse, …"
)
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@click.option("--no-trunc", is_flag=True, help="Print IDs and steps in full.")
@format_option
@json_option
@click.pass_obj
def command(root: str | None, *, filters: Sequence[str], quiet: bool, no_trunc: bool, form: str, as_json: bool) -> None:
    """List what the build cache holds, the least recently used first.

    That is layers that steps left, by the step; what RUN --mount=type=cache keeps; the caches of pipelines' jobs, one
    for each lane; and mirrors of repositories. SHARED layers belong to images too: removing them from the cache frees
    nothing.
    """
    _ITEMS.check(form)
    wanted = parse_filters(filters)
    with open_store(root) as store:
        items = [item for item in store.cache_use.items() if wanted(item)]
    if as_json:
        print_json([_document(item) for item in items])
        return
    now = time.time()
    _ITEMS.print([_row(item, now, no_trunc=no_trunc) for item in items], form, quiet=quiet, whole=no_trunc)


def _row(item: CacheItem, now: float, *, no_trunc: bool) -> Row:
    step = one_line(item.description)
    return {
        "ID": item.id if no_trunc else _short(item),
        "Type": item.type,
        "Description": step if no_trunc else cut(step, _DESCRIPTION_WIDTH),
        "CreatedSince": age(max(0.0, now - item.created_at)),
        "CreatedAt": rfc3339(item.created_at),
        "LastUsedSince": age(max(0.0, now - item.used_at)),
        "LastUsedAt": rfc3339(item.used_at),
        "Size": size_text(item.size_bytes),
        "Shared": "yes" if item.shared else "no",
        "InUse": "yes" if item.in_use else "no",
    }


def _short(item: CacheItem) -> str:
    return item.id.removeprefix("sha256:")[:12]


def _document(item: CacheItem) -> dict[str, Any]:
    return {**item._asdict(), "created_at": rfc3339(item.created_at), "used_at": rfc3339(item.used_at)}
