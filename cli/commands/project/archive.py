"""``shiplap project archive``."""

from __future__ import annotations

import click

from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.servers import required_server


@click.command("archive")
@click.argument("name")
@click.pass_obj
def command(root: str | None, *, name: str) -> None:
    """Archive a project: it takes no pushes, no images and no runs, and is in no list of projects.

    Its runs and images stay readable. shiplap project unarchive undoes it.
    """
    with Client(required_server(host_option(), root)) as client:
        client.call("PUT", f"/projects/{segment(name)}/archive")
