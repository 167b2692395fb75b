"""Shows the jobs of a run until it ends: as a table that changes on a terminal, elsewhere as lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TextIO

from cli.progress.screen import terminal_size
from cli.progress.text import cell_text, cell_width, harmless
from cli.remote.errors import ServerError, UnreachableServerError
from cli.remote.http import Client
from cli.remote.jobfollowing import Glance
from cli.remote.jobs import FIRST_PLACE, has_ended, has_failed, job_path
from cli.remote.jobstable import jobs_table
from cli.remote.wording import job_why
from cli.table import PLAIN, looks_of

_LOOK_S: Final = 1.0
_ASKED: Final = 8
"""Jobs whose steps are asked for at each look."""
_MARGIN: Final = 2
"""Lines of a terminal that a table leaves free."""


def watch(client: Client, run: int, sink: TextIO, *, pause: Callable[[float], object] = time.sleep) -> None:
    """Show what becomes of a run's jobs until all have ended. Raises RemoteErrors."""
    glance, steps = Glance(run), _Steps(run)
    shown = _Lines(sink) if looks_of(sink) == PLAIN else _Table(sink)
    while True:
        glance.look(client)
        if glance.is_there:
            jobs = _visible(glance.jobs)
            shown.show(jobs, steps.of(client, jobs))
            if glance.jobs and all(map(has_ended, glance.jobs)):
                return
        pause(_LOOK_S)


def _visible(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the job that planned the others, as soon as there are some."""
    return [job for job in jobs if job["place"] > FIRST_PLACE] or jobs


class _Steps:
    """The steps of jobs that are worth a row of their own: the running one, and those that failed."""

    def __init__(self, run: int) -> None:
        self._run = run
        self._failed: dict[int, list[dict[str, Any]]] = {}
        """Of jobs that ended, by their places: these do not change any more."""

    def of(self, client: Client, jobs: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
        """By the places of jobs. Of very many running jobs only some are asked for. Raises RemoteErrors."""
        found = dict(self._failed)
        running = [job["place"] for job in jobs if job["state"] == "running"][:_ASKED]
        failed = [job["place"] for job in jobs if has_failed(job) and job["place"] not in found][:_ASKED]
        for place in (*running, *failed):
            try:
                steps = client.call("GET", f"{job_path(self._run, place)}/steps")["steps"]
            except ServerError:
                continue
            except UnreachableServerError:  # the next look tells whether the server is there
                break
            found[place] = [step for step in steps if step["state"] in ("running", "failed")]
            if place in failed:
                self._failed[place] = found[place]
        return found


class _Lines:
    """A line for each job, and another whenever its state changes."""

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink
        self._known: dict[int, str] = {}

    def show(self, jobs: list[dict[str, Any]], steps: Mapping[int, list[dict[str, Any]]]) -> None:
        del steps
        for job in jobs:
            if self._known.get(job["place"]) != job["state"]:
                self._known[job["place"]] = job["state"]
                why = job_why(job)
                text = f"{job['name']}: {job['state']}{f' ({why})' if why else ''}"
                self._sink.write(f"{cell_text(text)}\n")
        self._sink.flush()


class _Table:
    """A table that is written over itself, with steps below their jobs.

    Where the terminal has too few lines, what is done stands last.
    """

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink
        self._height = 0

    def show(self, jobs: list[dict[str, Any]], steps: Mapping[int, list[dict[str, Any]]]) -> None:
        columns, lines = terminal_size(self._sink)
        room = max(1, lines - _MARGIN)
        looks = looks_of(self._sink)._replace(columns=columns - 1)
        if len(jobs) >= room:
            jobs = sorted(jobs, key=lambda job: has_ended(job) and not has_failed(job))
        table = jobs_table(jobs, time.time(), looks, steps).splitlines()
        if len(table) > room:
            table = [*table[: room - 1], f"… and {len(table) - room + 1} more"]
        back = f"\x1b[{self._height}A\r\x1b[J" if self._height else ""
        self._sink.write(back + "".join(f"{line}\n" for line in table))
        self._sink.flush()
        widths = (cell_width(harmless(line, colours=False)) for line in table)
        self._height = sum(max(1, -(-width // columns)) for width in widths)
