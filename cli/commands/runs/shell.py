"""``shiplap runs shell``."""

from __future__ import annotations

import click

from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.servers import required_server
from cli.remote.shell import enter


@click.command("shell", context_settings={"allow_interspersed_args": False})
@click.argument("run", type=click.IntRange(1))
@click.argument("job")
@click.argument("args", metavar="[COMMAND]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def command(root: str | None, *, run: int, job: str, args: tuple[str, ...]) -> int:
    """Open a shell in a job that runs, or in what a failed one left.

    JOB is its number or name; COMMAND is /bin/sh unless given. What a failed
    job left is kept for an hour, where the project wants that (`shiplap
    project set NAME --keep-failed`); what is done in it is thrown away. The
    result of a job that somebody had a shell in while it ran is reused by no
    other run. Who opened which shell is in the audit trail. The exit code is
    that of COMMAND.
    """
    with Client(required_server(host_option(), root)) as client:
        return enter(client, run, job, args)
