"""``shiplap project ls``."""

from __future__ import annotations

from typing import Any

import click

from cli.listing import format_option
from cli.options import json_option
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.rows import PROJECTS, project_row
from cli.remote.servers import required_server
from cli.table import print_json


@click.command("ls")
@click.option("--archived", is_flag=True, help="Only archived projects, which are not listed otherwise.")
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
@format_option
@json_option
@click.pass_obj
def command(root: str | None, *, archived: bool, quiet: bool, form: str, as_json: bool) -> None:
    """List projects."""
    PROJECTS.check(form)
    query = {"archived": "true"} if archived else {}
    with Client(required_server(host_option(), root)) as client:
        projects: list[dict[str, Any]] = client.call("GET", "/projects", query=query)["projects"]
    if as_json:
        print_json(projects)
        return
    PROJECTS.print(map(project_row, projects), form, quiet=quiet)
