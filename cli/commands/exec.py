"""``shiplap exec``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from cli.containers.command import container_command
from cli.containers.execing import OPTIONS, execute
from cli.declared import declared


@container_command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("name", metavar="CONTAINER")
@click.argument("first", metavar="COMMAND", type=click.UNPROCESSED)
@click.argument("arguments", metavar="[ARGUMENT...]", nargs=-1, type=click.UNPROCESSED)
@declared(OPTIONS)
@click.pass_obj
def command(root: str | None, /, *, name: str, first: str, arguments: Sequence[str], **options: Any) -> int:
    """Run a command in a running container.

    The exit code is the command's; 126 when it cannot be executed, 127 when it is not found.

    \b
    shiplap exec -it web sh
    """
    return execute(root, name=name, arguments=(first, *arguments), **options)
