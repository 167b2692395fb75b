"""``shiplap runs cancel``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.errors import CommandError
from cli.guarding import for_each
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.jobs import job_path, known_jobs
from cli.remote.servers import required_server
from pipelines.runs.jobnames import meant


@click.command("cancel")
@click.argument("asked", metavar="RUN... | RUN JOB...", nargs=-1, required=True)
@click.pass_obj
def command(root: str | None, *, asked: Sequence[str]) -> int:
    """Cancel runs, or jobs of a run.

    JOB is the name of a job, or of one with a matrix, which means all of it; by
    its number a job is RUN/JOB. What needs the job is cancelled with it.

    What waits is cancelled at once, what runs within a second. Jobs of a
    pipeline get SIGTERM and their grace, and those that clean up after them are
    still done; the second time all of this is killed.
    """
    with Client(required_server(host_option(), root)) as client:
        wanted = _wanted(asked)
        _refuse_ambiguous(client, asked)

        def cancel(target: str) -> None:
            run, _, job = target.partition("/")
            if not job:
                click.echo(client.call("POST", f"/runs/{run}/cancel")["number"])
                return
            for found in client.call("POST", f"{job_path(int(run), job)}/cancel")["jobs"]:
                click.echo(f"{run}/{found['name']}")

        return for_each(wanted, cancel)


def _wanted(asked: Sequence[str]) -> list[str]:
    """Runs as ``RUN``, jobs as ``RUN/JOB``. Raises UsageError."""
    found: list[str] = []
    run = ""
    for place, text in enumerate(asked):
        number, _, job = text.partition("/")
        if _is_number(number) and (job or "/" not in text):
            run = number
            found.append(text)
        elif not run:
            raise click.UsageError(f"{text!r} is no run: first comes a run's number, then the names of its jobs")
        else:
            if _is_number(asked[place - 1]):
                found.pop()  # the run is only named for its jobs
            found.append(f"{run}/{text}")
    return found


def _refuse_ambiguous(client: Client, asked: Sequence[str]) -> None:
    """Raise CommandError where a second number may be a run or a job: neither may be ended by mistake."""
    if len(asked) != 2 or not all(map(_is_number, asked)):
        return
    run, other = asked
    jobs = known_jobs(client, int(run))
    if len(jobs) > 1 and meant(other, [(job["place"], job["name"], "") for job in jobs]):
        raise CommandError(
            f"is {other} a run, or a job of run {run}?", hint=f"{run}/{other} is the job; cancel the runs one by one"
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0
