"""``shiplap runs logs``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from cli.remote.choice import host_option
from cli.remote.following import Follower
from cli.remote.http import Client
from cli.remote.jobfollowing import JobsFollower
from cli.remote.jobs import (
    FIRST_PLACE,
    chosen_jobs,
    has_failed,
    is_bad,
    is_of_pipeline,
    job_path,
    known_jobs,
    list_jobs,
)
from cli.remote.logchoice import LinePrinter, LogChoice, NoStepError
from cli.remote.onlooking import PlainOnlooker
from cli.remote.servers import Server, required_server


@click.command("logs")
@click.argument("run", type=click.IntRange(1))
@click.argument("job", required=False)
@click.option("--job", "named", metavar="JOB", help="The same as JOB.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run, or the job, ends.")
@click.option("--exit-status", is_flag=True, help="With -f: exit with 1 unless what was followed succeeded.")
@click.option("-n", "--numbers", is_flag=True, help="Print each line's number before it.")
@click.option("-t", "--timestamps", is_flag=True, help="Print when each line came before it.")
@click.option("--from", "first", type=click.IntRange(1), default=1, help="The first line to print.  [default: 1]")
@click.option("--tail", type=click.IntRange(0), metavar="LINES", help="Of each log only the last lines.")
@click.option("--search", metavar="TEXT", default="", help="Only lines that contain this, in any case.")
@click.option("--step", metavar="STEP", default="", help="Only steps with this in their names, in any case.")
@click.option("--failed", is_flag=True, help="Only jobs and steps that failed.")
@click.pass_obj
def command(
    root: str | None,
    *,
    run: int,
    job: str | None,
    named: str | None,
    follow: bool,
    exit_status: bool,
    numbers: bool,
    timestamps: bool,
    first: int,
    tail: int | None,
    search: str,
    step: str,
    failed: bool,
) -> int:
    """Print a run's log, or that of one of its jobs.

    JOB is a job's number in the run or its name. The name of a job with a
    matrix means all of it. Where several jobs are printed, each line has its
    job in front. Without JOB it is the run's own log, and then those of all its
    jobs.

    \b
    shiplap runs logs 12 --failed --tail 50        why it failed
    shiplap runs logs 12 test -f --exit-status     in a script
    """
    if job is not None and named is not None:
        raise click.UsageError("JOB is given twice")
    if follow and (step or failed):
        raise click.UsageError("--step and --failed look at what there is: leave out --follow")
    if exit_status and not follow:
        raise click.UsageError("--exit-status waits for the end: it needs --follow")
    choice = LogChoice(first, tail, search, step, failed)
    shown = _Shown(required_server(host_option(), root), run, job if named is None else named, choice)
    printer = LinePrinter(choice, numbers=numbers, timestamps=timestamps)
    if not follow:
        shown.print_stored(printer)
        return 0
    shown.follow(printer)
    return 0 if not exit_status or shown.succeeded() else 1


class _Shown:
    """What is shown: a run's logs, or those of some of its jobs. job: None for all of the run."""

    def __init__(self, server: Server, run: int, job: str | None, choice: LogChoice) -> None:
        self._server = server
        self._run = run
        self._job = job
        self._choice = choice

    def print_stored(self, printer: LinePrinter) -> None:
        with Client(self._server) as client:
            jobs = self._chosen(client)
            narrowed = self._choice.step or self._choice.failed
            if self._job is None and not (narrowed and any(map(is_of_pipeline, jobs))):
                count = next((each["lines"] for each in jobs if each["place"] == FIRST_PLACE), 0)
                printer.print_all(self._choice.stored(client, f"/runs/{self._run}", count))
            if self._job is None:
                jobs = list(filter(is_of_pipeline, jobs))
            if self._choice.failed:
                jobs = list(filter(has_failed, jobs))
            lacking: list[NoStepError] = []
            for each in jobs:
                name = each["name"] if len(jobs) > 1 or self._job is None else ""
                path = job_path(self._run, each["place"])
                try:
                    printer.print_all(self._choice.stored(client, path, each["lines"]), name)
                except NoStepError as error:  # one of the others may have it
                    lacking.append(error)
            if lacking and len(lacking) == len(jobs):
                raise lacking[0]

    def follow(self, printer: LinePrinter) -> None:
        with Client(self._server) as client:
            client.call("GET", f"/runs/{self._run}")  # report at once what is wrong from the start
            jobs = self._chosen(client)
        if self._job is not None:
            self._follow_jobs(jobs, printer)
        elif not jobs:
            _print_as_it_comes(printer, self._follower(0, 0))
        else:  # its first job may be planning the others yet
            self._follow_jobs([each for each in jobs if each["place"] == FIRST_PLACE], printer)
            self._follow_named(is_of_pipeline, printer)

    def succeeded(self) -> bool:
        """Whether all that was followed has succeeded."""
        with Client(self._server) as client:
            if self._job is None:
                return bool(client.call("GET", f"/runs/{self._run}")["state"] in ("succeeded", "warnings"))
            return not any(map(is_bad, self._chosen(client)))

    def _chosen(self, client: Client) -> list[dict[str, Any]]:
        if self._job is None:
            return known_jobs(client, self._run)
        return chosen_jobs(list_jobs(client, self._run), self._run, self._job)

    def _follow_jobs(self, jobs: Sequence[dict[str, Any]], printer: LinePrinter) -> None:
        if len(jobs) == 1:
            _print_as_it_comes(printer, self._follower(jobs[0]["place"], jobs[0]["lines"]))
            return
        places = [each["place"] for each in jobs]
        self._follow_named(lambda each: each["place"] in places, printer)

    def _follower(self, place: int, count: int) -> Follower:
        after = self._choice.after(count)
        return Follower(self._server, self._run, job=place, after=after, onlooker=PlainOnlooker())

    def _follow_named(self, wanted: Callable[[dict[str, Any]], bool], printer: LinePrinter) -> None:
        follower = JobsFollower(self._server, self._run, wanted=wanted, onlooker=PlainOnlooker())
        for name, line in follower.lines():
            printer.print([line], name)


def _print_as_it_comes(printer: LinePrinter, follower: Follower) -> None:
    for batch in follower.batches():
        printer.print(batch)
