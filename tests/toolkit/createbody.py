"""The body that our command line makes of a line of ``create``, with nothing made."""

from __future__ import annotations

from typing import Any

import click

from cli.containers.body import create_body
from cli.containers.command import ContainerCommand
from cli.containers.options import CREATE_OPTIONS
from cli.declared import declared


def read(line: list[str]) -> dict[str, Any]:
    """The body that our command line makes of these words, as ``create`` does."""
    found: dict[str, Any] = {}

    @click.command("create", cls=ContainerCommand, context_settings={"allow_interspersed_args": False})
    @click.argument("image")
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    @click.option("-d", "--detach", is_flag=True)
    @declared(CREATE_OPTIONS)
    def command(*, image: str, arguments: tuple[str, ...], detach: bool, **options: Any) -> None:
        found.update(create_body(image, arguments, options, detached=detach))

    command.main(line, standalone_mode=False)
    return found
