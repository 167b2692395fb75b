"""``shiplap create``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from cli.containers.command import container_command
from cli.containers.options import CREATE_OPTIONS
from cli.declared import declared
from cli.errors import CommandError, describe, is_users
from cli.guarding import say
from cli.registry import insecure_option

_WRONG_OPTION: Final = 125
"""docker's, for an option whose value makes no sense."""


@container_command("create", context_settings={"allow_interspersed_args": False, "help_option_names": ["--help"]})
@click.argument("image", metavar="IMAGE")
@click.argument("arguments", metavar="[COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@declared(CREATE_OPTIONS)
@insecure_option
@click.pass_obj
def command(
    root: str | None, /, *, image: str, arguments: Sequence[str], insecure: Sequence[str], **options: Any
) -> int:
    """Make a container, and do not start it.

    Prints its ID. The options are those of run.

    \b
    shiplap create --name web -e PORT=80 app && shiplap start web
    """
    from cli.containers.body import create_body
    from cli.containers.making import made

    try:
        body = create_body(image, arguments, options)
    except (CommandError, OSError) as error:
        if not is_users(error):
            raise
        say(describe(error))
        return _WRONG_OPTION
    with made(root, image, body, options, insecure) as created:
        click.echo(created.id)
    return 0
