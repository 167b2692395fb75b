"""``shiplap image save``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.store import open_store
from cli.streams import output_stream
from core.errors import InvalidReferenceError
from core.platforms import Platform
from core.references import Reference

if TYPE_CHECKING:
    from images.summary import Image


@click.command("save")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-o", "--output", "target", metavar="FILE", default="-", help="The tar.  [default: standard output]")
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Of an image for several, only this one.")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], target: str, platform: str | None) -> None:
    """Save images to a tar (OCI layout and docker load).

    An image for several platforms is saved whole, with its attestations.

    \b
    shiplap image save app -o app.tar && skopeo inspect oci-archive:app.tar
    """
    from images.archive import SavedImage, save

    wanted = Platform.parse(platform) if platform else None
    with open_store(root) as store:
        images = []
        for name in names:
            index = store.images.indexes.find(name) if wanted is None else None
            image = store.images.resolve(name, wanted)
            images.append(SavedImage(index or image, _asked_name(name, image)))
        with output_stream(target, "-o FILE") as sink:
            save(store, images, sink)


def _asked_name(text: str, image: Image) -> tuple[Reference, ...]:
    """The name by which the image was found; empty when it was found by ID, as in docker."""
    try:
        name = Reference.parse(text).with_default_tag()
    except InvalidReferenceError:
        return ()
    return (name,) if name in image.names else ()
