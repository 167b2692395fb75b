"""``shiplap cache du``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from cli.commands.cache.filters import parse_filters
from cli.options import json_option
from cli.progress.text import size_text
from cli.store import open_store
from cli.table import print_json, print_table


@click.command("du")
@click.option("--filter", "filters", metavar="FILTER", multiple=True, help="Count only these layers and mounts.")
@json_option
@click.pass_obj
def command(root: str | None, *, filters: Sequence[str], as_json: bool) -> None:
    """Show what the build cache takes on disk.

    Layers that images have too count as shared; reclaimable is what a prune would free now. Snapshots are derived from
    layers, of images too: they are made again when a step needs them.
    """
    wanted = parse_filters(filters)
    with open_store(root) as store:
        items = [item for item in store.cache_use.items() if wanted(item)]
        snapshots = store.cache_use.snapshots()
    kinds: dict[str, dict[str, Any]] = {}
    for kind, title in (("layer", "layers"), ("mount", "mounts"), ("cache", "caches"), ("mirror", "mirrors")):
        of_kind = [item for item in items if item.type == kind]
        kinds[title] = {
            "count": len(of_kind),
            "size_bytes": sum(item.size_bytes for item in of_kind),
            "shared_bytes": sum(item.size_bytes for item in of_kind if item.shared),
            "reclaimable_bytes": sum(item.size_bytes for item in of_kind if item.reclaimable),
        }
    kinds["snapshots"] = {
        "count": len(snapshots),
        "size_bytes": sum(snapshot.size_bytes for snapshot in snapshots),
        "shared_bytes": 0,
        "reclaimable_bytes": sum(snapshot.size_bytes for snapshot in snapshots if not snapshot.in_use),
    }
    total = {key: sum(kind[key] for kind in kinds.values()) for key in kinds["layers"]}
    if as_json:
        print_json({**kinds, "total": total})
        return
    rows = [
        (title, str(of["count"]), *(size_text(of[f"{what}_bytes"]) for what in ("size", "shared", "reclaimable")))
        for title, of in (*kinds.items(), ("total", total))
    ]
    print_table(("TYPE", "COUNT", "SIZE", "SHARED", "RECLAIMABLE"), rows)
