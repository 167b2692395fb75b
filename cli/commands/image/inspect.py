"""``shiplap image inspect``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from cli.guarding import for_each
from cli.images.documents import image_document
from cli.store import open_store
from cli.table import print_json
from core.platforms import Platform


@click.command("inspect")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Which of an image's platforms.  [default: this host's]")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], platform: str | None) -> int:
    """Show all about images, as JSON.

    The members are docker's; Config is the image's own, as it is stored. Index is there for images of several
    platforms, and LayersAway for layers that are still at their registry.
    """
    wanted = Platform.parse(platform) if platform else None
    documents: list[dict[str, Any]] = []
    with open_store(root) as store:
        code = for_each(names, lambda name: documents.append(image_document(store, name, wanted)))
    print_json(documents)
    return code
