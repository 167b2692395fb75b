"""``shiplap network rm``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import NoMatterError, for_all, opened


@container_command("rm")
@click.argument("names", metavar="NETWORK...", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="One that is not there is no error.")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], force: bool) -> int:
    """Remove networks that no container is in."""
    from engine.errors import NetworkNotFoundError

    with opened(root) as engine:

        def remove(name: str) -> None:
            try:
                engine.remove_network(name)
            except NetworkNotFoundError as error:
                if force:
                    raise NoMatterError(None) from error
                raise

        return for_all(names, remove)
