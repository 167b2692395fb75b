"""``shiplap image save``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.store import open_store
from cli.streams import output_stream
from core.errors import InvalidReferenceError
from core.references import Reference

if TYPE_CHECKING:
    from images.images import Image


@click.command("save")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-o", "--output", "target", metavar="FILE", default="-", help="The tar.  [default: standard output]")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], target: str) -> None:
    """Save images to a tar (OCI layout and docker load).

    \b
    shiplap image save app -o app.tar && skopeo inspect oci-archive:app.tar
    """
    from images.archive import SavedImage, save

    with open_store(root) as store:
        images = [
            SavedImage(image, _asked_name(name, image)) for name in names for image in [store.images.resolve(name)]
        ]
        with output_stream(target, "-o FILE") as sink:
            save(store, images, sink)


def _asked_name(text: str, image: Image) -> tuple[Reference, ...]:
    """The name that found the image; none when an ID did, as docker has it."""
    try:
        name = Reference.parse(text).with_default_tag()
    except InvalidReferenceError:
        return ()
    return (name,) if name in image.names else ()
