"""Who of a group goes on next: jobs, or whole runs, of which only so many may go on at once in a project. Pure.

First in, first out, by the numbers of runs: of those that wait, none overtakes another. The service calls ``turn``
under a lock of the project, ``shiplap ci run`` in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ci.model import WhenBusy


class Member(NamedTuple):
    """A job or a run that has a place in a group, or waits for one. In the order of their turns.

    run: its number.
    place: of the job in the run; 0: the whole run.
    is_waiting: it has no place yet.
    is_ending: it has one, and gives it up soon.
    limit, when_busy: as of ``ci.model.Concurrency``.
    """

    run: int
    place: int
    is_waiting: bool
    is_ending: bool = False
    limit: int = 1
    when_busy: WhenBusy = "wait"


class Turn(NamedTuple):
    """What is to be done in a group.

    next: gets a place; None: none is free, or nobody waits.
    replaced: need not wait any more, for the newest does.
    ended: are to give their places up to the newest.
    newest: because of whom that is; None: none.
    """

    next: Member | None = None
    replaced: tuple[Member, ...] = ()
    ended: tuple[Member, ...] = ()
    newest: Member | None = None


def turn(members: Iterable[Member]) -> Turn:
    """What is to be done next; to be asked again once it is done. members: all of one group in one project."""
    in_order = sorted(members)
    waiting = [member for member in in_order if member.is_waiting]
    holding = [member for member in in_order if not member.is_waiting]
    if not waiting:
        return Turn()
    first, newest = waiting[0], waiting[-1]
    if len(holding) < first.limit:
        return Turn(first)
    if newest.when_busy == "wait":
        return Turn()
    replaced = tuple(member for member in waiting if member.run < newest.run)
    older = (member for member in holding if member.run < newest.run and not member.is_ending)
    return Turn(None, replaced, tuple(older) if newest.when_busy == "cancel" else (), newest)
