"""Shows the run of a pipeline that this command began: lines of its jobs with their names, and how each ended."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from cli.progress.text import harmless
from cli.remote.following import Onlooker
from cli.remote.http import Client
from cli.remote.jobfollowing import JobsFollower
from cli.remote.jobs import is_of_pipeline
from cli.remote.jobstable import jobs_table
from cli.remote.servers import Server


def show_pipeline(server: Server, run: int, onlooker: Onlooker, sink: TextIO = sys.stderr) -> dict[str, Any]:
    """Show the jobs of a run until all have ended; the run as it is then. Raises RemoteErrors."""
    follower = JobsFollower(server, run, wanted=is_of_pipeline, onlooker=onlooker)
    for name, line in follower.lines():
        if line.kind in ("output", "start", "warning"):
            front = "=> " if line.kind == "start" else ""
            sink.write(f"{harmless(name, colours=False)} | {front}{harmless(line.text)}\n")
            sink.flush()
    sink.write("\n" + jobs_table(list(filter(is_of_pipeline, follower.jobs)), time.time()) + "\n")
    sink.flush()
    with Client(server) as client:
        ended: dict[str, Any] = client.call("GET", f"/runs/{run}")
    return ended
