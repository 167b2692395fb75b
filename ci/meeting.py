"""Warnings about outputs that may meet: jobs that know nothing of each other, and one path for what both leave.

What they leave may be equal, so only the run knows whether it is an error (``ci.workspace.conflicts``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Final

from ci import matrix as matrices
from ci import patterns
from ci.model import Job, Output
from ci.problems import Problems
from ci.substitution import is_open
from dockerfile_grammar import IgnorePatterns

_MOST_QUESTIONS: Final = 300
"""Whether a job sees what others leave is asked so often at most: a stranger may have written the file."""


def warn_of_meeting(jobs: Mapping[str, Job], before: Callable[[str], frozenset[str]], problems: Problems) -> None:
    """Add a warning for each pair of jobs and path, and for each output that all jobs of a matrix have.

    before: the names of all jobs before one. Jobs that have a ``when`` may never be in one run, so nothing is said.
    """
    takers = _Takers(jobs, before)
    producers: dict[str, list[tuple[str, Output]]] = {}
    for name, job in jobs.items():
        for output in () if job.when else filter(Output.is_for_jobs, job.outputs):
            if is_open(output.path) or is_open(output.into) or patterns.excludes(output.path):
                continue
            if matrices.may_be_several(job.matrix) and (taker := takers.of({name}, output.into or output.path)):
                problems.warning(
                    getattr(output.path, "span", None),
                    f'all jobs of the matrix output {output.into or output.path}, and "{taker}" needs them: '
                    "it fails when they differ",
                    hint="give each a directory of its own: {path: …, into: …} with a ${NAME} of the matrix",
                )
            if not output.into and patterns.is_literal(output.path):
                producers.setdefault(patterns.literal_start(output.path), []).append((name, output))
    for path, found in producers.items():
        for (one, _), (other, output) in combinations(found, 2):
            if takers.is_tired:
                return
            if takers.are_beside(one, other) and (taker := takers.of({one, other}, path)):
                problems.warning(
                    getattr(output.path, "span", None),
                    f'"{one}" and "{other}" both output {path}, and "{taker}" needs both: it fails when they differ',
                    hint="let one need the other, or give one of them another directory: {path: …, into: …}",
                )


class _Takers:
    """The jobs that come after others and see what they leave."""

    def __init__(self, jobs: Mapping[str, Job], before: Callable[[str], frozenset[str]]) -> None:
        self._before = {name: before(name) for name in jobs}
        self._inputs = {name: job.inputs for name, job in jobs.items()}
        self._compiled: dict[str, IgnorePatterns] = {}
        self._questions = 0

    @property
    def is_tired(self) -> bool:
        return self._questions >= _MOST_QUESTIONS

    def are_beside(self, one: str, other: str) -> bool:
        self._questions += 1
        return one != other and one not in self._before[other] and other not in self._before[one]

    def of(self, names: set[str], path: str) -> str | None:
        """The first job after all of ``names`` that sees a path; of a pattern, its beginning."""
        if self.is_tired:
            return None
        self._questions += 1
        start = patterns.literal_start(path)
        return next(
            (name for name, before in self._before.items() if names <= before and self._sees(name, start)), None
        )

    def _sees(self, name: str, path: str) -> bool:
        inputs = self._inputs[name]
        if inputs is None or not path or any(map(is_open, inputs)):
            return True
        meant = self._compiled.get(name)
        if meant is None:
            meant = self._compiled[name] = patterns.compiled(inputs)
        return meant.matches(path) or meant.reaches_below(path)
