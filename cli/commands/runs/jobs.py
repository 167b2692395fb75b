"""``shiplap runs jobs``."""

from __future__ import annotations

import time

import click

from cli.options import json_option
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.jobs import list_jobs
from cli.remote.jobstable import jobs_table
from cli.remote.servers import required_server
from cli.table import print_json


@click.command("jobs")
@click.argument("run", type=click.IntRange(1))
@json_option
@click.pass_obj
def command(root: str | None, *, run: int, as_json: bool) -> None:
    """List the jobs of a run.

    The first one has planned the others, or is the build that the run is.
    """
    with Client(required_server(host_option(), root)) as client:
        jobs = list_jobs(client, run)
    if as_json:
        print_json(jobs)
        return
    click.echo(jobs_table(jobs, time.time()))
