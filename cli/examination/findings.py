"""Findings about a part of the service, and the looks that make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeAlias

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
