"""Who a run is of, for gates that somebody else has to answer. Git's author counts nowhere: anybody can write it."""

from __future__ import annotations

from typing import Final

from pipelines.model import Trigger
from pipelines.sources.senders import shown_sender

_BEHIND: Final = " (token "


def author_of(trigger: Trigger) -> str:
    """The forge's login of whoever pushed, or the service's user who asked for the run; empty: nobody knows.

    A robot is ``robot 7``: no user's name has a space. Who repeats a run is not its author.
    """
    if trigger.kind == "manual":
        return shown_sender(trigger.sender)
    return person(trigger.author if trigger.retry_of else trigger.by)


def person(actor: str) -> str:
    """The user behind a name of the audit trail: ``ana`` of ``ana (token laptop)``."""
    return actor.partition(_BEHIND)[0]


def is_same(one: str, other: str) -> bool:
    """Whether two names are the same person's. Forges tell no capitals from small letters, nor does the service."""
    return one.casefold() == other.casefold()
