"""``shiplap runs retry``."""

from __future__ import annotations

import click

from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.jobs import job_path
from cli.remote.servers import required_server


@click.command("retry")
@click.argument("run", type=click.IntRange(1))
@click.argument("job", required=False)
@click.option("--failed", is_flag=True, help="Only jobs that did not succeed, and what comes after them.")
@click.pass_obj
def command(root: str | None, *, run: int, job: str | None, failed: bool) -> None:
    """Run again what a run was, or some of its jobs.

    With JOB, a job's number or name, that one is done again, and what comes
    after it. The results of other jobs that succeeded are taken over, with what
    they output. Prints the number of the new run.
    """
    if job is not None and failed:
        raise click.UsageError("--failed is for a whole run: leave out the job")
    path = f"/runs/{run}/retry" if job is None else f"{job_path(run, job)}/retry"
    with Client(required_server(host_option(), root)) as client:
        click.echo(client.call("POST", path, query={"failed": "true"} if failed else None)["number"])
