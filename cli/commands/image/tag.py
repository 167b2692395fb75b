"""``shiplap image tag``."""

from __future__ import annotations

import click

from cli.options import image_name
from cli.store import open_store


@click.command("tag")
@click.argument("source", metavar="IMAGE")
@click.argument("target", metavar="NAME[:TAG]")
@click.pass_obj
def command(root: str | None, *, source: str, target: str) -> None:
    """Give an image another name.

    A name that another image has moves to this one.

    \b
    shiplap image tag app registry.example.com/team/app:1.2
    """
    name = image_name(target)
    with open_store(root) as store:
        index = store.images.indexes.find(source)
        store.images.tag(name, index.digest if index else store.images.resolve(source).id)
