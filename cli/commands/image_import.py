"""``shiplap image import``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.options import image_name
from cli.store import open_store
from cli.streams import input_stream
from core.platforms import Platform


@click.command("import")
@click.argument("source", metavar="ROOTFS.tar|-")
@click.argument("name", metavar="[NAME[:TAG]]", required=False)
@click.option("-c", "--change", "changes", metavar="INSTRUCTION", multiple=True, help="Apply CMD, ENV, … Repeatable.")
@click.option("-m", "--message", default="", help="The comment in the image's history.")
@click.option("--platform", metavar="OS/ARCH", help="What the files are for.  [default: this machine]")
@click.pass_obj
def command(
    root: str | None, *, source: str, name: str | None, changes: Sequence[str], message: str, platform: str | None
) -> None:
    """Make an image from a root filesystem tar.

    The tar may be compressed; '-' is standard input. Prints the image ID.

    \b
    mmdebstrap --variant=minbase trixie - | shiplap image import - debian:trixie
    shiplap image import -c 'CMD ["sh"]' busybox.tar busybox
    """
    from images.archive import import_rootfs

    reference = image_name(name) if name else None
    wanted = Platform.parse(platform) if platform else Platform.host()
    with input_stream(source, "a root filesystem tar", "its path") as stream, open_store(root) as store:
        image = import_rootfs(store, stream, reference, changes=changes, message=message, platform=wanted)
    click.echo(image.id)
