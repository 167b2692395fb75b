"""Cancellation: whoever starts work gives a question; loops whose length a stranger chose ask it.

A build's time-out, its cancellation and the end of its process come down to one question: does the work have to end?
Nobody in the middle passes it on: ``asking`` sets it for all that runs inside it, in this thread. A thread that is
started inside knows nothing of it, and needs an ``asking`` of its own, or a copy of the context
(``contextvars.copy_context``).

Cleaning up does not ask: it has to be done in any case.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Final, TypeAlias

Question: TypeAlias = Callable[[], None]
"""Raises what ends the work, once it has to end; quick, and safe in any thread."""

_question: Final[ContextVar[Question | None]] = ContextVar("question", default=None)


@contextlib.contextmanager
def asking(question: Question) -> Iterator[None]:
    """Let every ``check`` inside ask ``question``, in this thread."""
    token = _question.set(question)
    try:
        yield
    finally:
        _question.reset(token)


def check() -> None:
    """Raise what the question raises when the work has to end; do nothing where no question was set."""
    question = _question.get()
    if question is not None:
        question()
