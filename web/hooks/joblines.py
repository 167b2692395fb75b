"""The logs of all jobs of a pipeline's run as one stream of lines, each with its job's name in front.

A line's number says of which job it is: so whoever comes back says with a number for each job what he has had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from ci.graph import ENDED
from pipelines.logs.reading import Line
from pipelines.model import FIRST_PLACE

if TYPE_CHECKING:
    from pipelines.service import Service

LINES_OF_A_JOB: Final = 10**9
"""A line's number in the stream is this times the job's place, and its own number."""

_LINES: Final = 500
_PAUSE_S: Final = 0.3


def lines_of_jobs(
    known: Service, run: int, seen: Mapping[int, int], stopping: Callable[[], bool]
) -> Iterator[tuple[int, str, list[Line]]]:
    """Lines as they come: the place and the name of their job, and they; empty ones, with the place 0, while none come.

    seen: by place, the last line that is known already. Ends when all jobs have ended, or this process is to.
    """
    last = dict(seen)
    numbers: dict[int, int] = {}
    done: set[int] = set()
    while not stopping():
        jobs = [job for job in known.jobs.list(run) if job.place > FIRST_PLACE and job.place not in done]
        if not jobs:
            return
        has_come = False
        for job in jobs:
            number = numbers.setdefault(job.place, known.jobs.number(run, job.place))
            lines = known.logs.read(number, last.get(job.place, 0) + 1, _LINES) if job.attempt or job.lines else []
            if lines:
                has_come = True
                last[job.place] = lines[-1][0]
                yield job.place, job.name, lines
            elif job.state in ENDED:
                done.add(job.place)
        if not has_come:
            yield 0, "", []
            time.sleep(_PAUSE_S)
