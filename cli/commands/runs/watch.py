"""``shiplap runs watch``."""

from __future__ import annotations

import sys

import click

from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.servers import required_server
from cli.remote.watching import watch
from cli.remote.wording import outcome, printable


@click.command("watch")
@click.argument("run", type=click.IntRange(1))
@click.option("--exit-status", is_flag=True, help="Exit with 1 unless the run succeeded.")
@click.pass_obj
def command(root: str | None, *, run: int, exit_status: bool) -> int:
    """Show what becomes of a run's jobs until it has ended.

    On a terminal it is a table that changes; elsewhere a line whenever a job's state changes. `runs logs -f` shows what
    they print.
    """
    with Client(required_server(host_option(), root)) as client:
        client.call("GET", f"/runs/{run}")  # report at once what is wrong from the start
        watch(client, run, sys.stdout)
        ended = client.call("GET", f"/runs/{run}")
    click.echo(f"run {run}: {printable(outcome(ended))}")
    return 0 if not exit_status or ended["state"] in ("succeeded", "warnings") else 1
