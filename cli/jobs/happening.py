"""What a display of jobs is told. Texts are masked, and lines are whole."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from ci.local.watching import JobEnd
from core.events import Event


class Began(NamedTuple):
    """An attempt of a job begins. attempt: from 1. at: seconds since the epoch."""

    job: str
    attempt: int
    at: float


class Happened(NamedTuple):
    """Something of an attempt."""

    job: str
    event: Event


class FailedOnce(NamedTuple):
    """An attempt failed, and there will be another."""

    job: str
    message: str


class Ended(NamedTuple):
    """A job will not change any more."""

    job: str
    end: JobEnd


class Ending(NamedTuple):
    """The run is being ended."""

    reason: str


Happening: TypeAlias = Began | Happened | FailedOnce | Ended | Ending
