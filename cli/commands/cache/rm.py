"""``shiplap cache rm``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.errors import CommandError
from cli.progress.text import size_text
from cli.store import open_store

if TYPE_CHECKING:
    from images.cacheuse import CacheItem


@click.command("rm")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.pass_obj
def command(root: str | None, *, ids: Sequence[str]) -> None:
    """Remove items of the build cache by their IDs.

    The IDs are those of `shiplap cache ls`, or their beginnings. What is in use stays, and is an error; so do layers
    that images have. A job whose cache is removed begins with an empty one.
    """
    with open_store(root) as store:
        items = store.cache_use.items()
        chosen = [_named(items, text) for text in ids]
        busy = [item for item in chosen if item.in_use]
        if busy:
            raise CommandError(f"{busy[0].id} is in use: nothing was removed", hint="wait until the job has ended")
        report = store.cache_use.remove(dict.fromkeys(chosen))
    click.echo(f"Total reclaimed space: {size_text(report.freed_bytes)}")


def _named(items: Sequence[CacheItem], text: str) -> CacheItem:
    found = [
        item for item in items if text and item.id.removeprefix("sha256:").startswith(text.removeprefix("sha256:"))
    ]
    if not found:
        raise CommandError(f"the build cache has no {text}", hint="shiplap cache ls shows what there is")
    if len(found) > 1:
        raise CommandError(f"{len(found)} items begin with {text}", hint="shiplap cache ls --no-trunc shows whole IDs")
    return found[0]
