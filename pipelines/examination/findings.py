"""Findings about a part of the service, and the looks that make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeAlias

from core.errors import ShiplapError

State: TypeAlias = Literal["OK", "WARN", "FAILED"]


class Finding(NamedTuple):
    """The result of one thing that was tried.

    state: OK; WARN: the service works, and this may be intended or not; FAILED: a part of the service does not work.
    detail: what was found. Whoever prints it masks secrets.
    remedy: the next step to take; empty for none.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


class Look(NamedTuple):
    """Something to try.

    bound_s: the time after which it is given up.
    see: the next step to take, where an error does not name one.
    """

    name: str
    work: Callable[[], Iterator[Finding]]
    bound_s: float
    see: str


def careful(look: Look) -> Iterator[Finding]:
    """The look's findings. An error that the look does not expect becomes a finding."""
    try:
        yield from look.work()
    except ShiplapError as error:
        yield Finding(look.name, "FAILED", error.message, error.hint or look.see)
    except OSError as error:
        yield Finding(look.name, "FAILED", str(error), look.see)
