"""``shiplap project set``."""

from __future__ import annotations

from typing import Any

import click

from cli.commands.project.options import changed, settings_options
from cli.remote.choice import host_option
from cli.remote.http import Client, segment
from cli.remote.servers import required_server


@click.command("set")
@click.argument("name")
@settings_options
@click.pass_obj
def command(root: str | None, /, *, name: str, **given: Any) -> None:
    """Change a project's settings; what is not given stays.

    A list (--branch, --path, …) is replaced as a whole; '' empties it.
    """
    with Client(required_server(host_option(), root)) as client:
        client.call(
            "PUT", f"/projects/{segment(name)}", changed(client.call("GET", f"/projects/{segment(name)}"), given)
        )
