"""Shows the jobs of a run until it ends: as a table that changes on a terminal, elsewhere as lines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

from cli.progress.text import harmless
from cli.remote.http import Client
from cli.remote.jobfollowing import Glance
from cli.remote.jobs import FIRST_PLACE, has_ended, has_failed
from cli.remote.jobstable import job_why, jobs_table

_LOOK_S: Final = 1.0
_MARGIN: Final = 2
"""Lines of a terminal that a table leaves free."""


def watch(client: Client, run: int, sink: TextIO, *, pause: Callable[[float], object] = time.sleep) -> None:
    """Show what becomes of a run's jobs until all have ended. Raises RemoteErrors."""
    glance, shown = Glance(run), _Table(sink) if sink.isatty() else _Lines(sink)
    while True:
        glance.look(client)
        if glance.is_there:
            shown.show(_visible(glance.jobs))
            if glance.jobs and all(map(has_ended, glance.jobs)):
                return
        pause(_LOOK_S)


def _visible(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the job that planned the others, as soon as there are some."""
    return [job for job in jobs if job["place"] > FIRST_PLACE] or jobs


class _Lines:
    """A line for each job, and another whenever its state changes."""

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink
        self._known: dict[int, str] = {}

    def show(self, jobs: list[dict[str, Any]]) -> None:
        for job in jobs:
            if self._known.get(job["place"]) != job["state"]:
                self._known[job["place"]] = job["state"]
                why = job_why(job)
                text = f"{job['name']}: {job['state']}{f' ({why})' if why else ''}"
                self._sink.write(f"{harmless(text, colours=False)}\n")
        self._sink.flush()


class _Table:
    """A table that is written over itself. Where the terminal has too few lines, what is done stands last."""

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink
        self._height = 0

    def show(self, jobs: list[dict[str, Any]]) -> None:
        columns, lines = os.get_terminal_size(self._sink.fileno())
        room = max(1, lines - _MARGIN)
        if len(jobs) >= room:
            jobs = sorted(jobs, key=lambda job: has_ended(job) and not has_failed(job))
        table = harmless(jobs_table(jobs, time.time()), colours=False).splitlines()
        if len(table) > room:
            table = [*table[: room - 1], f"… and {len(table) - room + 1} more"]
        back = f"\x1b[{self._height}A\r\x1b[J" if self._height else ""
        self._sink.write(back + "".join(f"{line[: columns - 1]}\n" for line in table))
        self._sink.flush()
        self._height = len(table)
