"""Bounds on what variables make of a file's words: a few lines that double a variable would fill any memory."""

from __future__ import annotations

from typing import Final

from dockerfile_grammar.errors import ExpansionError

MAX_GROWTH: Final = 1 << 20
"""How many characters variables may add to one word."""

MAX_TOTAL_GROWTH: Final = 16 << 20
"""How many they may add to all words of a file. BuildKit takes no plan that is larger, as one message."""


def check_growth(size: int) -> None:
    """Raises ExpansionError when ``size`` characters, put into one word by variables, are too many."""
    if size > MAX_GROWTH:
        raise ExpansionError(
            f"variables make a word longer than {MAX_GROWTH} characters",
            hint="Linux takes 128 KiB in one variable or argument; put what is longer into a file",
        )


class Growth:
    """What variables have added to the words of one file so far."""

    def __init__(self) -> None:
        self._total = 0

    def add(self, written: str, *made: str | bytes) -> None:
        """Count a word, and what it was expanded to. Raises ExpansionError when that is too much for one file."""
        self._total += max(0, sum(map(len, made)) - len(written))
        if self._total > MAX_TOTAL_GROWTH:
            raise ExpansionError(
                f"up to here, variables make the Dockerfile longer by more than {MAX_TOTAL_GROWTH >> 20} MiB",
                hint="put long values into files of the context, and read them where they are used",
            )
