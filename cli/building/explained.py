"""``--explain``: adds to a build's report everything that had changed, for every step that ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from builder.explaining.words import describe
from cli.progress.text import one_line
from core.events import StepFinished, StepInfo

_MOST_LINES = 25


def explained(steps: Iterable[tuple[StepInfo, StepFinished]]) -> list[str]:
    """The explanation, as lines of text. steps: those that ended, in the order of the Dockerfile."""
    told = [(info, end) for info, end in steps if end.changes]
    if not told:
        return ["", "nothing ran: the cache had every step"]
    return ["", "why these steps ran:", *(line for info, end in told for line in _step(info, end))]


def _step(info: StepInfo, end: StepFinished) -> Iterator[str]:
    place = f" (line {info.line})" if info.line else ""
    yield f" {one_line(info.name)}{place}"
    for change in end.changes[:_MOST_LINES]:
        yield f"   - {one_line(describe(change))}"
    if len(end.changes) > _MOST_LINES:
        yield f"   - and {len(end.changes) - _MOST_LINES} more changes"
