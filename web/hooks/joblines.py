"""The logs of all jobs of pipelines' runs as one stream of lines, each with its job's name in front.

A line's number says of which job it is: so whoever comes back says with a number for each job what he has had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from ci.graph import ENDED
from pipelines.logs.reading import Line
from pipelines.model import FIRST_PLACE
from pipelines.runs.together import PlannedTogether

if TYPE_CHECKING:
    from pipelines.runs.jobs import JobView
    from pipelines.service import Service

LINES_OF_A_JOB: Final = 10**9
"""A line's number in the stream is this times the job's place, and its own number."""
PLACES_OF_A_RUN: Final = 1000
"""The places of the jobs of each further run begin that much higher."""

_LINES: Final = 500
_PAUSE_S: Final = 0.3
"""How long states of jobs may stay unseen; what jobs print is seen as soon as it is there."""

_MOST_AWAITED: Final = 256


class _Job(NamedTuple):
    """A job of one of the runs. place: in the stream. name: with its pipeline's in front, where there are several."""

    place: int
    name: str
    view: JobView


def lines_of_jobs(
    known: Service, runs: Sequence[PlannedTogether], seen: Mapping[int, int], stopping: Callable[[], bool]
) -> Iterator[tuple[int, str, list[Line]]]:
    """Lines as they come: the place and the name of their job, and they; empty ones, with the place 0, while none come.

    seen: by place, the last line that is known already. Ends when all jobs have ended, or this process is to.
    """
    last = dict(seen)
    numbers: dict[int, int] = {}
    done: set[int] = set()
    ended: set[int] = set()
    was_woken = False
    while not stopping():
        jobs = [job for job in _jobs(known, runs, ended) if job.place not in done]
        if not jobs:
            return
        has_come = False
        awaited: dict[tuple[int, int], int] = {}
        for place, name, job in jobs:
            number = numbers.setdefault(place, known.jobs.number(job.run, job.place))
            lines = known.logs.read(number, last.get(place, 0) + 1, _LINES) if job.attempt or job.lines else []
            if lines:
                has_come = True
                last[place] = lines[-1][0]
                yield place, name, lines
            elif job.state in ENDED:
                done.add(place)
            elif not job.is_gate and len(awaited) < _MOST_AWAITED:
                awaited[number, job.attempt + (job.state != "running")] = last.get(place, 0)
        ended |= {run for run, _ in runs if all(job.place in done for job in jobs if job.view.run == run)}
        if not has_come:
            yield 0, "", []
            if was_woken:  # by what cannot be read yet: it is not asked for again at once
                time.sleep(_PAUSE_S)
            was_woken = not was_woken and known.logs.wait(awaited, _PAUSE_S)
        else:
            was_woken = False


def _jobs(known: Service, runs: Sequence[PlannedTogether], ended: set[int]) -> Iterator[_Job]:
    """The jobs of those runs that have not ended, without those that planned them."""
    for index, (run, pipeline) in enumerate(runs):
        if run in ended:
            continue
        front = f"{pipeline}/" if len(runs) > 1 else ""
        for job in known.jobs.list(run):
            if job.place > FIRST_PLACE:
                yield _Job(index * PLACES_OF_A_RUN + job.place, f"{front}{job.name}", job)
