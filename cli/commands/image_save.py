"""``shiplap image save``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.store import open_store
from cli.streams import output_stream


@click.command("save")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-o", "--output", "target", metavar="FILE", default="-", help="The tar.  [default: standard output]")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], target: str) -> None:
    """Save images to a tar (OCI layout and docker load).

    \b
    shiplap image save app -o app.tar && skopeo inspect oci-archive:app.tar
    """
    from images.archive import save

    with open_store(root) as store:
        images = [store.images.resolve(name) for name in names]
        with output_stream(target, "-o FILE") as sink:
            save(store, images, sink)
