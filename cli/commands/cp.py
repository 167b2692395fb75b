"""``shiplap cp``."""

from __future__ import annotations

import sys

import click

from cli.containers.command import container_command
from cli.containers.copying import Place, copy_in, copy_out
from cli.containers.opening import opened
from cli.errors import CommandError


@container_command("cp")
@click.argument("source", metavar="[CONTAINER:]PATH|-")
@click.argument("target", metavar="[CONTAINER:]PATH|-")
@click.option("-a", "--archive", is_flag=True, help="Keep owners and groups.")
@click.option("-L", "--follow-link", is_flag=True, help="Copy what PATH points to, where it is a link.")
@click.option("-q", "--quiet", is_flag=True, help="As docker's; there is no progress to leave out.")
@click.pass_obj
def command(root: str | None, *, source: str, target: str, archive: bool, follow_link: bool, quiet: bool) -> None:
    """Copy files out of a container, or into one.

    '-' is a tar on standard output or input. A directory whose path ends in /. is copied without its name. No link
    leads out of the container, or out of the directory here.

    \b
    shiplap cp web:/etc/nginx/nginx.conf .
    tar c site | shiplap cp - web:/srv
    """
    del quiet
    origin, place = Place.read(source), Place.read(target)
    if origin.container and place.container:
        raise CommandError("copying between containers is not supported")
    if not origin.container and not place.container:
        raise CommandError("must specify at least one container source")
    with opened(root) as engine:
        if origin.container:
            copy_out(engine.files, origin, place, keeps_owners=archive, follows=follow_link, out=sys.stdout.buffer)
        else:
            copy_in(engine.files, origin, place, keeps_owners=archive, follows=follow_link, source=sys.stdin.buffer)
