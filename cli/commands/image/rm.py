"""``shiplap image rm``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.guarding import for_each
from cli.store import open_store


@click.command("rm")
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Given an ID, remove the image with all its names.")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], force: bool) -> int:
    """Remove names, and images that have none left."""
    with open_store(root) as store:

        def remove(name: str) -> None:
            for line in store.images.remove(name, force=force):
                click.echo(line)

        return for_each(names, remove)
