"""``shiplap rm``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import NoMatterError, for_all, opened


@container_command("rm")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="One that runs is killed first; one that is not there is no error.")
@click.option("-v", "--volumes", is_flag=True, help="With its anonymous volumes.")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], force: bool, volumes: bool) -> int:
    """Remove containers, with what they wrote."""
    from engine.errors import ContainerNotFoundError

    with opened(root) as engine:

        def remove(name: str) -> None:
            try:
                engine.remove(name, force=force, volumes=volumes)
            except ContainerNotFoundError as error:
                if force:
                    raise NoMatterError(error) from error
                raise

        return for_all(names, remove)
