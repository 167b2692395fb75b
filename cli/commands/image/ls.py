"""``shiplap image ls``."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.containers.filters import filter_option, read_filters
from cli.containers.imagerows import IMAGES, WITH_DIGESTS, image_rows
from cli.listing import format_option
from cli.options import json_option
from cli.progress.text import size_text
from cli.store import open_store
from cli.table import age, created_time, print_json, print_table, rfc3339
from core.references import Reference

if TYPE_CHECKING:
    from images.summary import Image


@click.command("ls")
@click.argument("name", metavar="[NAME[:TAG]]", required=False)
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@click.option("--no-trunc", is_flag=True, help="Print IDs in full.")
@click.option("--digests", is_flag=True, help="With what registries call them.")
@click.option("-a", "--all", "show_all", is_flag=True, hidden=True, help="As docker's; all images are always listed.")
@filter_option
@format_option
@json_option
@click.pass_obj
def command(
    root: str | None,
    *,
    name: str | None,
    quiet: bool,
    no_trunc: bool,
    digests: bool,
    show_all: bool,
    filters: Sequence[str],
    form: str,
    as_json: bool,
) -> None:
    """List images.

    NAME selects by name, with * and ? as wildcards. An image for several platforms has a line for each. Filters are
    docker's: before, dangling, label, reference, since, until.

    \b
    shiplap image ls --filter dangling=true --format '{{.ID}} {{.CreatedAt}}'
    """
    del show_all
    wanted = read_filters(filters)
    listing = WITH_DIGESTS if digests else IMAGES
    listing.check(form)
    with open_store(root) as store:
        images = store.images.list()
        if wanted:
            from engine.imagefilters import matching

            images = matching(store, images, wanted)
        if (form or digests) and not quiet:
            chosen = [image._replace(names=tuple(filter(None, _names(image, name)))) for image in images]
            shown = [image for image in chosen if image.names or name is None]
            listing.print(image_rows(store, shown, no_trunc=no_trunc), form, whole=no_trunc)
            return
    if as_json:
        print_json([_document(image) for image in images if any(True for _ in _names(image, name))])
        return
    found = [(image, reference) for image in images for reference in _names(image, name)]
    if quiet:
        ids = dict.fromkeys(str(image.id) if no_trunc else image.id.short for image, _ in found)
        if ids:
            click.echo("\n".join(ids))
        return
    header: tuple[str, ...] = ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE")
    rows = list(_rows(found, no_trunc=no_trunc, now=time.time()))
    names = [reference for _, reference in found if reference]
    if len(names) > len(set(names)):  # a name stands for several platforms
        header = (*header[:3], "PLATFORM", *header[3:])
        rows = [(*row[:3], str(image.config.platform), *row[3:]) for row, (image, _) in zip(rows, found, strict=True)]
    print_table(header, rows, whole=no_trunc)


def _names(image: Image, pattern: str | None) -> Iterator[Reference | None]:
    """The image's names that match; None once for an image without names."""
    if not image.names and pattern is None:
        yield None
    for name in image.names:
        if pattern is None or any(fnmatch.fnmatchcase(text, pattern) for text in (name.familiar, name.familiar_name)):
            yield name


def _rows(found: Iterable[tuple[Image, Reference | None]], *, no_trunc: bool, now: float) -> Iterator[tuple[str, ...]]:
    for image, name in found:
        yield (
            name.familiar_name if name else "<none>",
            (name.tag if name else None) or "<none>",
            str(image.id) if no_trunc else image.id.short,
            age(max(0.0, now - created_time(image))),
            size_text(image.size_bytes),
        )


def _document(image: Image) -> dict[str, Any]:
    return {
        "id": image.id,
        "manifest_digest": image.manifest_digest,
        "names": [name.familiar for name in image.names],
        "platform": str(image.config.platform),
        "created": rfc3339(created_time(image)),
        "size_bytes": image.size_bytes,
    }
