"""``shiplap create``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from cli.containers.command import container_command
from cli.containers.options import CREATE_OPTIONS
from cli.declared import declared
from cli.registry import insecure_option


@container_command("create", context_settings={"allow_interspersed_args": False, "help_option_names": ["--help"]})
@click.argument("image", metavar="IMAGE")
@click.argument("arguments", metavar="[COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@declared(CREATE_OPTIONS)
@insecure_option
@click.pass_obj
def command(
    root: str | None, /, *, image: str, arguments: Sequence[str], insecure: Sequence[str], **options: Any
) -> None:
    """Make a container, and do not start it.

    Prints its ID. The options are those of run.

    \b
    shiplap create --name web -e PORT=80 app && shiplap start web
    """
    from cli.containers.making import made

    with made(root, image, arguments, options, insecure) as created:
        click.echo(created.id)
