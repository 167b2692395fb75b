"""Booleans as people write them for docker's tools: what Go's ``strconv.ParseBool`` takes."""

from __future__ import annotations

from typing import Final

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse_bool(text: str) -> bool | None:
    """Whether ``text`` says true or false; None for what says neither, as an empty one.

    Source: Go, strconv.ParseBool. "tRUE" and "yes" are neither.
    """
    return True if text in _TRUE else False if text in _FALSE else None
