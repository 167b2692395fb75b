"""``shiplap image import``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.options import image_name
from cli.store import open_store
from cli.streams import input_stream
from core.platforms import Platform
from core.settings import Settings


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
    import time

    import msgspec

    from cli.commands.image.changes import changed_config
    from images.archive import import_rootfs
    from images.oci import History, format_time

    names = [image_name(name)] if name else []
    wanted = Platform.parse(platform) if platform else Platform.host()
    settings = Settings.from_environ(root=root)
    now = time.time() if settings.source_date_epoch is None else settings.source_date_epoch
    created = format_time(now)
    with input_stream(source, "a root filesystem tar", "its path") as stream, open_store(root) as store:
        config = changed_config(wanted, changes, scratch=store.tmp)
        history = (History(created=created, comment=message),) if message else ()
        config = msgspec.structs.replace(config, created=created, history=history)
        image = import_rootfs(store, stream, config, names, source=source)
    click.echo(image.id)
