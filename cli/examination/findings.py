"""What was found out about a part of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeAlias

State: TypeAlias = Literal["OK", "WARN", "FAILED"]


class Finding(NamedTuple):
    """One thing that was tried.

    state: OK; WARN: the service works, and this may be meant or not; FAILED: something of the service does not work.
    detail: what was found. Whoever prints it masks what is secret.
    remedy: the next step, empty when there is none to take.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


class Look(NamedTuple):
    """Something to try.

    bound_s: after that it is given up.
    see: the next step where an error does not say one.
    """

    name: str
    work: Callable[[], Iterator[Finding]]
    bound_s: float
    see: str
