"""Previews: outputs for people that a mark at the commit opens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ci.ends import JobOutcome

HAVE_OUTCOME: Final = ("succeeded", "reused", "failed")
"""States of jobs that may have outputs."""


def previews_of(result: str) -> Iterable[str]:
    """The names of a job's previews. result: as its row has what came of it."""
    return [each.name for each in JobOutcome.from_json(result).published if each.preview]
