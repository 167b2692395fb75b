"""``shiplap rm``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import NoMatterError, for_all, opened
from cli.errors import CommandError


@container_command("rm")
@click.argument("names", metavar="CONTAINER...", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="One that runs is killed first; one that is not there is no error.")
@click.option("-v", "--volumes", is_flag=True, help="With its anonymous volumes.")
@click.option("-l", "--link", is_flag=True, help="Refused: a link goes with its container.")
@click.pass_obj
def command(root: str | None, *, names: Sequence[str], force: bool, volumes: bool, link: bool) -> int:
    """Remove containers, with what they wrote."""
    from engine.errors import ContainerNotFoundError

    if link:
        raise CommandError("--link is refused: a link of the default network goes with the container that has it")

    with opened(root) as engine:

        def remove(name: str) -> None:
            try:
                engine.remove(name, force=force, volumes=volumes)
            except ContainerNotFoundError as error:
                if force:
                    raise NoMatterError(error) from error
                raise

        return for_all(names, remove)
