"""``shiplap cache prune``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import click

from cli.commands.cache.filters import parse_filters
from cli.errors import CommandError
from cli.options import duration
from cli.progress.text import size_text
from cli.store import open_store
from core.quantities import parse_size
from images.store import Store


@click.command("prune")
@click.option("-a", "--all", "everything", is_flag=True, help="Also what images share: it frees nothing by itself.")
@click.option("--filter", "filters", metavar="FILTER", multiple=True, help="As docker's: until=24h, type=mount, …")
@click.option("--older-than", metavar="AGE", help="Only what was not used for this long, as in 36h or 14d.")
@click.option(
    "--max-used-space", "--keep-storage", metavar="SIZE", help="Remove no more than it takes to get down to this size."
)
@click.option(
    "--min-free-space", metavar="SIZE", help="Remove no more than it takes to have this much free on the disk."
)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(
    root: str | None,
    *,
    everything: bool,
    filters: Sequence[str],
    older_than: str | None,
    max_used_space: str | None,
    min_free_space: str | None,
    force: bool,
) -> None:
    """Remove what the build cache holds: layers of steps, cache mounts, caches of jobs, mirrors, snapshots.

    With a size: snapshots first, which can be derived again, then what was used least recently. What a running build
    uses stays, and so do the layers of images.
    """
    wanted = parse_filters(filters)
    before = time.time() - duration(older_than, "--older-than") if older_than else None
    used = _size(max_used_space, "--max-used-space")
    free = _size(min_free_space, "--min-free-space")
    if (used is not None or free is not None) and (filters or older_than or everything):
        raise CommandError("a size and a choice of what goes exclude each other", hint="run prune twice")
    limited = used is not None or free is not None
    if not (limited or filters or older_than or force):
        _confirm()
    with open_store(root) as store:
        if limited:
            report = store.cache_use.trim(_limit(store, used, free))
        else:
            items = [
                item
                for item in store.cache_use.items()
                if (everything or not item.shared) and (before is None or item.used_at < before) and wanted(item)
            ]
            snapshots = [
                snapshot
                for snapshot in store.cache_use.snapshots()
                if not filters and (before is None or snapshot.created_at < before)
            ]
            report = store.cache_use.remove(items, snapshots)
    click.echo(f"Cache records removed: {report.records}")
    click.echo(f"Total reclaimed space: {size_text(report.freed_bytes)}")


def _limit(store: Store, used: int | None, free: int | None) -> int:
    """Bytes that the cache may have."""
    limits = [] if used is None else [used]
    if free is not None:
        disk = os.statvfs(store.root)
        limits.append(max(0, store.cache_use.size_bytes() - max(0, free - disk.f_bavail * disk.f_frsize)))
    return min(limits)


def _size(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise CommandError(f"{option} {text!r} is no size", hint="write 512m or 20g") from error


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise CommandError("prune would remove the build cache and cannot ask", hint="say --force to do it unasked")
    click.confirm("This removes the build cache. Continue?", abort=True, err=True)
