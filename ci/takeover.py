"""What of a run is done again when it is retried, and what is taken over. Pure.

Whatever comes after a job that is done again is done again itself. What is not asked for is taken over where it
succeeded, and else left out: so a deployment can be done once more although a test that it does not need fails.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from ci.graph import HasNeeds, jobs_before, with_those_after


class Parts(NamedTuple):
    """The jobs of a run that repeats another, by name, each in one of these.

    redone: jobs that run.
    taken: jobs whose results are the other run's.
    left_out: jobs that the run does not have.
    gone: of ``redone``, those that had succeeded, but what they made is not here any more.
    """

    redone: frozenset[str]
    taken: frozenset[str]
    left_out: frozenset[str]
    gone: frozenset[str]


def parts_of(
    jobs: Sequence[HasNeeds], wanted: Collection[str], succeeded: Collection[str], *, is_here: Callable[[str], bool]
) -> Parts:
    """Share out the jobs of a pipeline.

    wanted: jobs that are done again in any case; empty: those that did not succeed.
    succeeded: in the other run.
    is_here: whether what a job that succeeded made can still be had; only asked where a job needs it.
    """
    before = jobs_before(jobs)
    after = with_those_after(jobs, wanted)
    asked = after.union(*(before[name] for name in after)) if wanted else frozenset(before)
    gone: frozenset[str] = frozenset()
    while True:
        redone: set[str] = set()
        for name in _in_order(jobs):
            if name in asked and (
                name in wanted or name not in succeeded or name in gone or not redone.isdisjoint(before[name])
            ):
                redone.add(name)
        needed = frozenset().union(*(before[name] for name in redone)) - redone
        lost = frozenset(name for name in needed if not is_here(name))
        if not lost:
            break
        gone |= lost
    taken: set[str] = set()
    for name in _in_order(jobs):
        has_all = before[name] <= taken or name in asked
        if name not in redone and name in succeeded and has_all:
            taken.add(name)
    left_out = frozenset(before) - redone - taken
    return Parts(frozenset(redone), frozenset(taken), left_out, gone)


def _in_order(jobs: Sequence[HasNeeds]) -> list[str]:
    """Names, each behind all that it needs."""
    before = jobs_before(jobs)
    return sorted(before, key=lambda name: len(before[name]))
