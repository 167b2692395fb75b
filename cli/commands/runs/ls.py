"""``shiplap runs ls``."""

from __future__ import annotations

import time
from typing import Any

import click

from cli.options import json_option
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.servers import required_server
from cli.remote.wording import outcome, title_text, took
from cli.table import age, print_json, table

_STATES = ("queued", "running", "blocked", "succeeded", "warnings", "failed", "cancelled", "error")


@click.command("ls")
@click.option("--project", metavar="NAME", help="Only runs of this project.")
@click.option("--state", type=click.Choice(_STATES), help="Only runs in this state.")
@click.option("--branch", metavar="NAME", help="Only runs of this branch.")
@click.option("--by", metavar="NAME", help="Only runs that this user, or forge's user, started.")
@click.option("--search", metavar="TEXT", help="Only runs with this in their titles, sources or names, or as number.")
@click.option("-n", "--last", type=click.IntRange(1, 500), default=20, help="How many.  [default: 20]")
@json_option
@click.pass_obj
def command(root: str | None, /, *, last: int, as_json: bool, search: str | None, **wanted: str | None) -> None:
    """List the runs of a server, the newest first."""
    asked = {**wanted, "text": search, "limit": str(last)}
    with Client(required_server(host_option(), root)) as client:
        query = {name: value for name, value in asked.items() if value is not None}
        runs: list[dict[str, Any]] = client.call("GET", "/runs", query=query)["runs"]
    if as_json:
        print_json(runs)
        return
    now = time.time()
    rows = [
        (
            str(run["number"]),
            run["project"],
            outcome(run),
            age(max(0.0, now - run["created_at"])),
            took(run, now),
            title_text(run),
        )
        for run in runs
    ]
    click.echo(table(("RUN", "PROJECT", "STATE", "CREATED", "TOOK", "WHAT"), rows))
