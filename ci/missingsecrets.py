"""Secrets that jobs of a plan need and will not get: told when the run is planned, not when they begin. Pure.

It is no error of the plan: a gate may wait for days before such a job, and the secret may come in that time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from ci.language.shapes import Text
from ci.model import Job
from ci.planning import PlannedJob

MOST: Final = 20
"""Of so many secrets a sentence each: a stranger's file may name thousands, and each gate keeps what it is told."""


def missing_secrets(
    jobs: Sequence[PlannedJob], path: str, had: Collection[str], refused: Mapping[str, str], *, bring: str, change: str
) -> list[str]:
    """A sentence for each secret that is needed and missing; beyond MOST, one that says how many more these are.

    path: the pipeline's file, for the place.
    had: names of the run's secrets.
    refused: by name, why the run does not get others.
    bring: a command that brings one, with ``NAME`` for its name.
    change: a command by which a run gets one that is refused; empty: none does.
    """
    found: dict[str, list[str]] = {}  # names of jobs
    places: dict[str, str] = {}
    for planned in jobs:
        for name in dict.fromkeys(_needed(planned.job)):
            if name in had:
                continue
            found.setdefault(str(name), []).append(planned.name)
            is_of_part = "/" in planned.base  # whose file is another one
            if isinstance(name, Text) and name.span is not None and not is_of_part:
                places.setdefault(str(name), f"{path}:{name.span}: ")
    told = [
        f"{places.get(name, '')}{_named(of)} the secret {name}, which this run {_why(name, refused, bring, change)}"
        for name, of in islice(found.items(), MOST)
    ]
    more = len(found) - MOST
    if more > 0:
        told.append(f"jobs need {more} more {'secret' if more == 1 else 'secrets'}, which this run does not get either")
    return told


def _needed(job: Job) -> Iterator[str]:
    """Names of the secrets without which a job or a service of it fails."""
    for secret in (*job.secrets, *(secret for service in job.services for secret in service.secrets)):
        if not secret.optional:
            yield secret.name
    for build in (job.build, *(image.build for image in job.images)):
        if build is not None:
            yield from build.secrets


def _named(jobs: Sequence[str]) -> str:
    others = len(jobs) - 1
    if not others:
        return f"{jobs[0]} needs"
    return f"{jobs[0]} and {others} more {'job' if others == 1 else 'jobs'} need"


def _why(name: str, refused: Mapping[str, str], bring: str, change: str) -> str:
    if name in refused:
        return f"may not have: {refused[name]}" + (f" (its policy is changed by `{change}`)" if change else "")
    return f"has not (`{bring.replace('NAME', name)}` brings it)"
