"""``shiplap project unarchive``."""

from __future__ import annotations

import click

from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.servers import required_server


@click.command("unarchive")
@click.argument("name")
@click.pass_obj
def command(root: str | None, *, name: str) -> None:
    """Make an archived project one like others again.

    It takes pushes, images and runs again; pushes that it has missed can be delivered again.
    """
    with Client(required_server(host_option(), root)) as client:
        client.call("DELETE", f"/projects/{segment(name)}/archive")
