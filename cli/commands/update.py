"""``shiplap update``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from cli.containers.body import changed_limits
from cli.containers.command import container_command
from cli.containers.opening import for_all, opened
from cli.containers.options import UPDATE_OPTIONS
from cli.declared import declared
from cli.errors import CommandError
from cli.guarding import say


@container_command("update")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@declared(UPDATE_OPTIONS)
@click.pass_obj
def command(root: str | None, /, *, names: Sequence[str], **options: Any) -> int:
    """Change the limits and the restart policy of containers, also while they run.

    \b
    shiplap update --memory 1g --restart unless-stopped web
    """
    body = changed_limits(options)
    if not body:
        raise CommandError("you must provide one or more flags when using this command")
    with opened(root) as engine:

        def update(name: str) -> None:
            for warning in engine.update(name, body):
                say(f"WARNING: {warning}")

        return for_all(names, update)
