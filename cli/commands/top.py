"""``shiplap top``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.listing import aligned, shown

_LEAST = 20  # cells of a column, as docker's


@container_command("top", context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
@click.argument("name", metavar="CONTAINER")
@click.argument("arguments", metavar="[PS OPTION...]", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(root: str | None, *, name: str, arguments: Sequence[str]) -> None:
    """Show the processes of a container, as the host's ps sees them.

    \b
    shiplap top web -eo pid,user,args
    """
    with opened(root) as engine:
        found = engine.top(name, " ".join(arguments))
    lines = ["\t".join(fields) for fields in (found["Titles"], *found["Processes"])]
    click.echo(shown(aligned("\n".join(lines), _LEAST)))
