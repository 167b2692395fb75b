"""``shiplap image history``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.containers.command import container_command
from cli.containers.imagerows import HISTORY, history_rows
from cli.listing import format_option
from cli.options import json_option
from cli.progress.text import cut, one_line, size_text
from cli.store import open_store
from cli.table import age, print_json, print_table, stated_time

if TYPE_CHECKING:
    from images.images import HistoryEntry
    from images.summary import Image

_CREATED_BY_WIDTH = 45


@container_command("history")
@click.argument("name", metavar="IMAGE")
@click.option("-q", "--quiet", is_flag=True, help="Print only the image ID.")
@click.option("--no-trunc", is_flag=True, help="Print commands and IDs in full.")
@click.option("-H", "--human/--no-human", default=True, help="Sizes and ages for people.  [default: on]")
@format_option
@json_option
@click.pass_obj
def command(root: str | None, *, name: str, quiet: bool, no_trunc: bool, human: bool, form: str, as_json: bool) -> None:
    """Show how an image was made.

    Newest first, with the size that each step added.
    """
    HISTORY.check(form)
    with open_store(root) as store:
        image = store.images.resolve(name)
        entries = store.images.history(image)[::-1]
    if as_json:
        print_json([_document(entry) for entry in entries])
    elif quiet:
        click.echo(image.id if no_trunc else image.id.short)
    elif form or not human:
        rows = list(history_rows(image, entries, no_trunc=no_trunc, human=human))
        HISTORY.print(rows, form, whole=no_trunc)
    else:
        header = ("IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT")
        print_table(header, list(_rows(image, entries, no_trunc=no_trunc)), whole=no_trunc)


def _rows(image: Image, entries: Sequence[HistoryEntry], *, no_trunc: bool) -> Iterator[tuple[str, ...]]:
    now = time.time()
    shown_id = str(image.id) if no_trunc else image.id.short
    for position, line in enumerate(entries):
        created = stated_time(line.entry.created)
        created_by = one_line(line.entry.created_by)
        yield (
            shown_id if position == 0 else "<missing>",
            "" if created is None else age(max(0.0, now - created)),
            created_by if no_trunc else cut(created_by, _CREATED_BY_WIDTH),
            size_text(line.size_bytes),
            one_line(line.entry.comment),
        )


def _document(line: HistoryEntry) -> dict[str, Any]:
    return {
        "created": line.entry.created,
        "created_by": line.entry.created_by,
        "comment": line.entry.comment,
        "empty_layer": line.entry.empty_layer,
        "diff_id": line.diff_id,
        "size_bytes": line.size_bytes,
    }
