"""``shiplap project show``."""

from __future__ import annotations

import click

from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.servers import required_server
from cli.table import print_json


@click.command("show")
@click.argument("name")
@click.pass_obj
def command(root: str | None, *, name: str) -> None:
    """Show a project's settings, as JSON.

    What is as usual is left out.
    """
    with Client(required_server(host_option(), root)) as client:
        print_json(client.call("GET", f"/projects/{segment(name)}"))
