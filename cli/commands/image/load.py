"""``shiplap image load``."""

from __future__ import annotations

import click

from cli.store import open_store
from cli.streams import input_stream


@click.command("load")
@click.option("-i", "--input", "source", metavar="FILE", default="-", help="The tar.  [default: standard input]")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing when all went well.")
@click.pass_obj
def command(root: str | None, *, source: str, quiet: bool) -> None:
    """Load images from a tar (OCI layout or docker save).

    The tar may be compressed.
    """
    from images.archive import load

    with input_stream(source, "an archive of images", "-i FILE") as stream, open_store(root) as store:
        images = load(store, stream)
    for image in images:
        if quiet:
            break
        for name in image.names:
            click.echo(f"Loaded image: {name.familiar}")
        if not image.names:
            click.echo(f"Loaded image ID: {image.id}")
