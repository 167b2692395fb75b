"""Warnings about images that would be pushed by one name: the last ``build`` to end has it, whichever that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ci import matrix as matrices
from ci.facts import FACTS
from ci.model import Build, Job
from ci.problems import Problems
from ci.substitution import BadReferenceError, references
from dockerfile_grammar.source import Span

_HINT: Final = "give it `tags` of its own, or `push: false`"
_OF_THE_JOB: Final = "SHIPLAP_JOB"
_OF_MATRIX_HINT: Final = 'name them with a ${NAME} of the matrix: `tags: ["app:${NAME}"]`'


def warn_of_same_names(jobs: Mapping[str, Job], place: Callable[[str], Span | None], problems: Problems) -> None:
    """Add a warning for each job whose image has a name that another one pushes, too.

    place: of a job's ``build``. Jobs that have a ``when`` may never be in one run, so nothing is said of them.
    """
    first: dict[str, str] = {}
    for name, job in jobs.items():
        if job.build is None or not job.build.push or job.when:
            continue
        for tag in _names(job.build):
            shown = f"the name {tag}" if tag else "the project's names"
            other = first.setdefault(tag, name)
            if other != name:
                problems.warning(place(name), f'"{other}" pushes {shown}, too: the last one to end has it', hint=_HINT)
            elif matrices.may_be_several(job.matrix):
                told = f"all jobs of the matrix push {shown}: the last one to end has it"
                problems.warning(place(name), told, hint=_OF_MATRIX_HINT)


def _names(build: Build) -> list[str]:
    """What it is named, as far as it is the same for all jobs of a run; an empty text: as the project says."""
    return [str(tag) for tag in build.tags if _is_of_the_run(tag)] if build.tags else [""]


def _is_of_the_run(tag: str) -> bool:
    try:
        found = references(tag)
    except BadReferenceError:  # an error, and told as one
        return False
    return all(not each.job and each.name in FACTS and each.name != _OF_THE_JOB for each in found)
