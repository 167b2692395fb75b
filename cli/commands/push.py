"""``shiplap push``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import click

from cli.guarding import for_each
from cli.registry import insecure_option, progress_option
from cli.transfers import transferring
from core.platforms import Platform
from core.references import Reference


@click.command("push")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--compression",
    type=click.Choice(("gzip", "zstd")),
    help="Of layers.  [default: an image that was pulled goes as it came; gzip for others]",
)
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Of an image for several, only this one.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the name in full.")
@progress_option
@insecure_option
@click.pass_obj
def command(
    root: str | None,
    *,
    names: Sequence[str],
    compression: Literal["gzip", "zstd"] | None,
    platform: str | None,
    quiet: bool,
    progress: str,
    insecure: Sequence[str],
) -> int:
    """Send images to the registries that their names begin with.

    An image for several platforms is sent whole, with its attestations.

    \b
    shiplap tag app ci:5000/app:1
    shiplap push ci:5000/app:1
    """
    from registry.client import push

    wanted = Platform.parse(platform) if platform else None

    def send(name: str) -> None:
        reference = Reference.parse(name).with_default_tag()
        with transferring(root, insecure, progress, quiet=quiet) as transfer:
            push(
                reference,
                transfer.store,
                client=transfer.client,
                platform=wanted,
                compression=compression,
                monitor=transfer.display,
            )
        if quiet:
            click.echo(str(reference))

    return for_each(names, send)
