"""``shiplap pull``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import click

from cli.guarding import for_each
from cli.registry import insecure_option, progress_option
from cli.transfers import transferring
from core.platforms import Platform
from core.references import Reference


@click.command("pull")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--platform",
    metavar="OS/ARCH[/VARIANT]|all",
    help="Which of an image's platforms; all brings the whole index.  [default: this host's]",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only the name in full.")
@progress_option
@insecure_option
@click.pass_obj
def command(
    root: str | None, *, names: Sequence[str], platform: str | None, quiet: bool, progress: str, insecure: Sequence[str]
) -> int:
    """Fetch images from their registries.

    \b
    shiplap pull debian:12
    shiplap pull ci:5000/app@sha256:4a94…
    shiplap pull --platform all ci:5000/app
    """
    from registry.client import pull

    wanted: Platform | Literal["all"] | None = None
    if platform:
        wanted = "all" if platform == "all" else Platform.parse(platform)

    def fetch(name: str) -> None:
        reference = Reference.parse(name).with_default_tag()
        with transferring(root, insecure, progress, quiet=quiet) as transfer:
            pulled = pull(reference, transfer.store, client=transfer.client, platform=wanted, monitor=transfer.display)
            transfer.display.message(f"Digest: {pulled.digest}")
            done = "Downloaded newer image for" if pulled.fresh else "Image is up to date for"
            transfer.display.message(f"Status: {done} {reference.familiar}")
        click.echo(str(reference))

    return for_each(names, fetch)
