"""``shiplap runs cancel``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from cli.errors import CommandError
from cli.guarding import for_each
from cli.remote.choice import host_option
from cli.remote.http import Client
from cli.remote.jobs import job_path, known_jobs
from cli.remote.servers import required_server
from pipelines.runs.jobnames import meant

_DIGITS: Final = 17  # longer than any run's number


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
    wanted = _wanted(asked)
    with Client(required_server(host_option(), root)) as client:
        _refuse_ambiguous(client, asked)

        def cancel(place: str) -> None:
            run, job = wanted[int(place)]
            if job is None:
                click.echo(client.call("POST", f"/runs/{run}/cancel")["number"])
                return
            for found in client.call("POST", f"{job_path(run, job)}/cancel")["jobs"]:
                click.echo(f"{run}/{found['name']}")

        return for_each(map(str, range(len(wanted))), cancel)


def _wanted(asked: Sequence[str]) -> list[tuple[int, str | None]]:
    """Runs and jobs, whose names may be no name at all: a script's empty variable must not end the whole run.

    Raises UsageError.
    """
    found: list[tuple[int, str | None]] = []
    for place, text in enumerate(asked):
        number, slash, job = text.partition("/")
        if _is_number(number):
            found.append((int(number), job if slash else None))
        elif not found:
            raise click.UsageError(f"{text!r} is no run: first comes a run's number, then the names of its jobs")
        else:
            run = found[-1][0]
            if _is_number(asked[place - 1]):
                found.pop()  # the run is only named for its jobs
            found.append((run, text))
    return found


def _refuse_ambiguous(client: Client, asked: Sequence[str]) -> None:
    """Raise CommandError where a second number may be a run or a job: neither may be ended by mistake."""
    if len(asked) < 2 or not all(map(_is_number, asked)):
        return
    run, *others = asked
    jobs = [(job["place"], job["name"], "") for job in known_jobs(client, int(run))]
    other = next((other for other in others if len(jobs) > 1 and meant(other, jobs)), None)
    if other is not None:
        raise CommandError(
            f"is {other} a run, or a job of run {run}?", hint=f"{run}/{other} is the job; cancel the runs one by one"
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < _DIGITS and int(text) > 0
