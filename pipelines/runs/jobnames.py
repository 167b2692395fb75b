"""Which jobs of a run somebody means: by number, by name, or by the name of a job with a matrix, which means all of it.

Imports nothing: the command line has jobs as JSON, the service as structs.
"""

from __future__ import annotations

from collections.abc import Iterable


def meant(text: str, jobs: Iterable[tuple[int, str, str]]) -> list[int]:
    """The places of the jobs that are meant; none: there is no such job.

    jobs: place, name and matrix of each; without a matrix that is empty.
    """
    known = list(jobs)
    exact = [place for place, name, _ in known if text in (name, str(place))]
    return exact or [place for place, _, matrix in known if matrix and matrix == text]
