"""``shiplap commit``."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.guarding import say
from cli.options import image_name
from containers.errors import LimitError


@container_command("commit")
@click.argument("name", metavar="CONTAINER")
@click.argument("target", metavar="[NAME[:TAG]]", required=False)
@click.option("-a", "--author", metavar="TEXT", default="", help="The image's author.")
@click.option("-m", "--message", metavar="TEXT", default="", help="The comment in the image's history.")
@click.option("-c", "--change", "changes", metavar="INSTRUCTION", multiple=True, help="Apply CMD, ENV, … Repeatable.")
@click.option("-p", "--pause/--no-pause", default=True, help="Freeze it meanwhile.  [default: pause]")
@click.pass_obj
def command(
    root: str | None,
    *,
    name: str,
    target: str | None,
    author: str,
    message: str,
    changes: Sequence[str],
    pause: bool,
) -> None:
    """Make an image of what a container is now.

    Prints the image's ID.

    \b
    shiplap commit -c 'CMD ["serve"]' web web:changed
    """
    wanted = image_name(target) if target else None
    with opened(root) as engine:
        commit = functools.partial(
            engine.files.commit, name, wanted, comment=message, author=author, instructions=list(changes)
        )
        try:
            identity = commit(pause=pause)
        except LimitError as error:
            say(f"WARNING: {error.message}; what it writes meanwhile may be in the image in part")
            identity = commit(pause=False)
    click.echo(identity)
