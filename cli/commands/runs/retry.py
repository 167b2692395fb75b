"""``shiplap runs retry``."""

from __future__ import annotations

import click

from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.servers import required_server


@click.command("retry")
@click.argument("run", type=click.IntRange(1))
@click.pass_obj
def command(root: str | None, *, run: int) -> None:
    """Run again what a run was.

    Prints the number of the new run.
    """
    with Client(required_server(host_option(), root)) as client:
        click.echo(client.call("POST", f"/runs/{run}/retry")["number"])
