"""``shiplap runs ls``."""

from __future__ import annotations

import time
from typing import Any

import click

from cli.listing import format_option
from cli.options import json_option
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.rows import RUNS, run_row
from cli.remote.servers import required_server
from cli.table import print_json

_STATES = ("queued", "running", "blocked", "succeeded", "warnings", "failed", "cancelled", "error")


@click.command("ls")
@click.option("--project", metavar="NAME", help="Only runs of this project.")
@click.option("--state", type=click.Choice(_STATES), help="Only runs in this state.")
@click.option("--branch", metavar="NAME", help="Only runs of this branch.")
@click.option("--by", metavar="NAME", help="Only runs that this user, or forge's user, started.")
@click.option("--search", metavar="TEXT", help="Only runs with this in their titles, sources or names, or as number.")
@click.option("-n", "--last", type=click.IntRange(1, 500), default=20, help="How many.  [default: 20]")
@click.option("-q", "--quiet", is_flag=True, help="Print only numbers.")
@click.option("--no-trunc", is_flag=True, help="Cut nothing off.")
@format_option
@json_option
@click.pass_obj
def command(
    root: str | None,
    /,
    *,
    last: int,
    quiet: bool,
    no_trunc: bool,
    form: str,
    as_json: bool,
    search: str | None,
    **wanted: str | None,
) -> None:
    """List the runs of a server, the newest first.

    \b
    shiplap runs ls --branch main --format '{{.Number}} {{.State}} {{.Title}}'
    """
    RUNS.check(form)
    asked = {**wanted, "text": search, "limit": str(last)}
    server = required_server(host_option(), root)
    with Client(server) as client:
        query = {name: value for name, value in asked.items() if value is not None}
        runs: list[dict[str, Any]] = client.call("GET", "/runs", query=query)["runs"]
    if as_json:
        print_json(runs)
        return
    now = time.time()
    RUNS.print([run_row(run, now, server.url) for run in runs], form, quiet=quiet, whole=no_trunc)
