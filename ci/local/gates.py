"""How a run on this machine asks whether it may go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from ci.model import Gate


class Answer(NamedTuple):
    """What somebody said to a gate. told: why it ended so, for people."""

    is_yes: bool
    told: str


Decide: TypeAlias = Callable[[str, str, Gate], Answer | None]
"""Asks: is given the job's name, what is asked with its values, and the gate. In the thread of ``LocalRun.run``.

Returns None when the run is to end before there is an answer.
"""


def nobody(job: str, asked: str, gate: Gate) -> Answer:
    """A ``Decide`` for a run that has nobody to ask."""
    del job, asked, gate
    return Answer(False, "there is nobody here to ask")
