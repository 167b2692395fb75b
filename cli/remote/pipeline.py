"""Shows the runs of pipelines that this command began: lines of their jobs with names, and how each ended."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final, TextIO

from cli.progress.text import harmless
from cli.remote.errors import ServerError
from cli.remote.following import Onlooker
from cli.remote.http import Client
from cli.remote.jobfollowing import JobsFollower
from cli.remote.jobs import is_of_pipeline
from cli.remote.jobstable import jobs_table
from cli.remote.servers import Server
from cli.table import looks_of
from pipelines.logs.lines import LogLine

_WORST: Final = ("cancelled", "error", "failed", "warnings", "succeeded")
_QUEUED_LINES: Final = 10_000


def runs_of_pipelines(server: Server, run: int) -> dict[int, str]:
    """The pipelines of the commit that a run is of, by the runs that they have; this one first.

    An older server tells of this one alone. Raises RemoteErrors.
    """
    with Client(server) as client:
        try:
            found = client.call("GET", f"/runs/{run}/pipelines")["runs"]
        except ServerError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return {run: ""}
    return {int(each["run"]): str(each["pipeline"]) for each in found}


def show_pipelines(
    server: Server, runs: dict[int, str], onlooker: Onlooker, sink: TextIO = sys.stderr
) -> dict[str, Any]:
    """Show the jobs of runs until all have ended; the run that ended worst, as it is then. Raises RemoteErrors.

    runs: by number, their pipelines; these are shown where there are several.
    """
    followers = {run: JobsFollower(server, run, wanted=is_of_pipeline, onlooker=onlooker) for run in runs}
    is_alone = len(runs) == 1
    for run, name, line in _lines(followers):
        if line.kind in ("output", "start", "warning"):
            front = "=> " if line.kind == "start" else ""
            named = name if is_alone else f"{runs[run]}/{name}"
            sink.write(f"{harmless(named, colours=False)} | {front}{harmless(line.text)}\n")
            sink.flush()
    with Client(server) as client:
        ended: list[dict[str, Any]] = [client.call("GET", f"/runs/{run}") for run in runs]
    for found, follower in zip(ended, followers.values(), strict=True):
        pipeline = harmless(runs[found["number"]], colours=False)
        title = "" if is_alone else f"run {found['number']}, pipeline {pipeline}: {found['state']}\n"
        jobs = list(filter(is_of_pipeline, follower.jobs))
        sink.write(f"\n{title}{jobs_table(jobs, time.time(), looks_of(sink))}\n")
    sink.flush()
    return min(ended, key=lambda found: _WORST.index(found["state"]))


def _lines(followers: dict[int, JobsFollower]) -> Iterator[tuple[int, str, LogLine]]:
    """The lines of all of them as they come: the run, the job's name, and the line."""
    came: queue.Queue[tuple[int, str, LogLine | Exception | None]] = queue.Queue(_QUEUED_LINES)

    def follow(run: int) -> None:
        try:
            for name, line in followers[run].lines():
                came.put((run, name, line))
            came.put((run, "", None))
        except Exception as error:  # whatever it is, who waits for lines is to learn of it
            came.put((run, "", error))

    for run in followers:
        threading.Thread(target=follow, args=(run,), name=f"run {run}", daemon=True).start()
    left = len(followers)
    while left:
        run, name, what = came.get()
        if isinstance(what, Exception):
            raise what
        if what is None:
            left -= 1
        else:
            yield run, name, what
