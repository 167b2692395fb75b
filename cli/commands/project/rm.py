"""``shiplap project rm``."""

from __future__ import annotations

import click

from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.servers import required_server


@click.command("rm")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(root: str | None, *, name: str, yes: bool) -> None:
    """Remove a project with its runs, logs, deliveries and secrets."""
    if not yes:
        click.confirm(f"Remove {name} with all its runs and logs?", abort=True, err=True)
    with Client(required_server(host_option(), root)) as client:
        client.call("DELETE", f"/projects/{segment(name)}")
