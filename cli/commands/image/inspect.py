"""``shiplap image inspect``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.inspecting import print_inspected, template_of
from cli.images.documents import image_document
from cli.store import open_store
from core.platforms import Platform


@click.command("inspect")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Which of an image's platforms.  [default: this host's]")
@click.option("-f", "--format", "form", metavar="FORM", default="", help="json, or a Go template.")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], platform: str | None, form: str) -> int:
    """Show all about images, as JSON.

    The members are docker's; Config is the image's own, as it is stored. Index is there for images of several
    platforms, and LayersAway for layers that are still at their registry.
    """
    wanted = Platform.parse(platform) if platform else None
    template = template_of(form)
    with open_store(root) as store:
        return print_inspected(names, lambda name: image_document(store, name, wanted), template)
