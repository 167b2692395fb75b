"""``shiplap runs jobs``."""

from __future__ import annotations

import time

import click

from cli.listing import format_option
from cli.options import json_option
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.jobs import list_jobs
from cli.remote.rows import JOBS, job_row
from cli.remote.servers import required_server
from cli.table import print_json


@click.command("jobs")
@click.argument("run", type=click.IntRange(1))
@click.option("-q", "--quiet", is_flag=True, help="Print only numbers.")
@click.option("--no-trunc", is_flag=True, help="Cut nothing off.")
@format_option
@json_option
@click.pass_obj
def command(root: str | None, *, run: int, quiet: bool, no_trunc: bool, form: str, as_json: bool) -> None:
    """List the jobs of a run.

    The first one has planned the others, or is the build that the run is.
    """
    JOBS.check(form)
    with Client(required_server(host_option(), root)) as client:
        jobs = list_jobs(client, run)
    if as_json:
        print_json(jobs)
        return
    now = time.time()
    JOBS.print([job_row(job, now) for job in jobs], form, quiet=quiet, whole=no_trunc)
