"""``shiplap runs logs``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import click
import msgspec

from cli.progress.text import harmless
from cli.remote.choice import host_option
from cli.remote.following import Follower
from cli.remote.http import Client
from cli.remote.jobfollowing import JobsFollower
from cli.remote.jobs import FIRST_PLACE, chosen_jobs, is_of_pipeline, job_path, known_jobs, list_jobs
from cli.remote.onlooking import PlainOnlooker
from cli.remote.servers import Server, required_server
from pipelines.logs.lines import LogLine

_PAGE: Final = 5000
_FOUND: Final = 1000


@click.command("logs")
@click.argument("run", type=click.IntRange(1))
@click.argument("job", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on printing until the run, or the job, ends.")
@click.option("-n", "--numbers", is_flag=True, help="Print each line's number before it.")
@click.option("--from", "first", type=click.IntRange(1), default=1, help="The first line to print.  [default: 1]")
@click.option("--search", metavar="TEXT", help="Only lines that contain this, in any case.")
@click.pass_obj
def command(
    root: str | None, *, run: int, job: str | None, follow: bool, numbers: bool, first: int, search: str | None
) -> None:
    """Print a run's log, or that of one of its jobs.

    JOB is a job's number in the run or its name. The name of a job with a
    matrix means all of it. Where several jobs are printed, each line has its
    job in front. Without JOB it is the run's own log, and then those of all its
    jobs.
    """
    server = required_server(host_option(), root)
    printer = _Printer(numbers=numbers, first=first, search=search or "")
    with Client(server) as client:
        if not follow:
            _print_stored(client, run, job, printer)
            return
        client.call("GET", f"/runs/{run}")  # report at once what is wrong from the start
        jobs = known_jobs(client, run)
    if job is not None:
        _follow_jobs(server, run, _places(jobs, run, job), printer)
    elif not jobs:
        printer.print_all(Follower(server, run, after=first - 1, onlooker=PlainOnlooker()).lines())
    else:  # its first job may be planning the others yet
        _follow_jobs(server, run, [FIRST_PLACE], printer)
        _print_named(JobsFollower(server, run, wanted=is_of_pipeline, onlooker=PlainOnlooker()), printer)


def _print_stored(client: Client, run: int, job: str | None, printer: _Printer) -> None:
    if job is None:
        printer.print_all(_stored(client, f"/runs/{run}/log", printer))
        wanted = list(filter(is_of_pipeline, known_jobs(client, run)))
    else:
        wanted = chosen_jobs(list_jobs(client, run), run, job)
    for each in wanted:
        name = each["name"] if len(wanted) > 1 or job is None else ""
        for line in _stored(client, f"{job_path(run, each['place'])}/log", printer):
            printer.print(line, name)


def _stored(client: Client, path: str, printer: _Printer) -> Iterator[LogLine]:
    """A log as far as it is stored; where something is looked for, the server does that."""
    asked, following = {"limit": str(_PAGE)}, printer.first
    if printer.search:
        path, asked = f"{path}/search", {"limit": str(_FOUND), "text": printer.search}
    while following is not None:
        page = client.call("GET", path, query={**asked, "first": str(following)})
        yield from msgspec.convert(page["lines"], list[LogLine])
        following = page["next"]


def _follow_jobs(server: Server, run: int, places: Sequence[int], printer: _Printer) -> None:
    if len(places) == 1:
        follower = Follower(server, run, job=places[0], after=printer.first - 1, onlooker=PlainOnlooker())
        printer.print_all(follower.lines())
    else:
        _print_named(
            JobsFollower(server, run, wanted=lambda each: each["place"] in places, onlooker=PlainOnlooker()), printer
        )


def _print_named(follower: JobsFollower, printer: _Printer) -> None:
    for name, line in follower.lines():
        printer.print(line, name)


def _places(jobs: list[dict[str, Any]], run: int, job: str) -> list[int]:
    return [each["place"] for each in chosen_jobs(jobs, run, job)]


class _Printer:
    """Prints lines. numbers: each with its number; first: of each log, the first that is printed; search: what they
    have to contain.
    """

    def __init__(self, *, numbers: bool, first: int, search: str) -> None:
        self.first = first
        self.search = search
        self._numbers = numbers
        self._wanted = search.casefold()

    def print_all(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            self.print(line)

    def print(self, line: LogLine, job: str = "") -> None:
        """Print a line that is wanted. job: its name, to stand in front; empty: nothing does."""
        if line.n < self.first or self._wanted not in line.text.casefold():
            return
        text = f"{line.n:6} {harmless(line.text)}" if self._numbers else harmless(line.text)
        click.echo(f"{harmless(job, colours=False)} | {text}" if job else text)
