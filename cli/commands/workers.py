"""``shiplap workers``."""

from __future__ import annotations

import time

import click

from cli.listing import format_option
from cli.options import json_option
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.rows import WORKERS, worker_row
from cli.remote.servers import required_server
from cli.table import print_json


@click.command("workers")
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
@format_option
@json_option
@click.pass_obj
def command(root: str | None, *, quiet: bool, form: str, as_json: bool) -> None:
    """List the workers of a build service, and what they do.

    SLOTS are those that are taken, and how many there are.
    """
    WORKERS.check(form)
    with Client(required_server(host_option(), root)) as client:
        workers = client.call("GET", "/workers")["workers"]
    if as_json:
        print_json(workers)
        return
    now = time.time()
    WORKERS.print([worker_row(worker, now) for worker in workers], form, quiet=quiet)
