"""Paths in tree order: a directory right in front of all below it, so that a tree is a slice of a sorted list."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

_SEPARATOR = "\0"
_BEHIND_IT = "\1"


def order_of(path: str) -> str:
    """The key to sort paths by."""
    return path.replace("/", _SEPARATOR)


def end_of(keys: Sequence[str], path: str) -> int:
    """The index behind the last of the sorted ``keys`` that is at or below ``path``; of the root, which is empty: all.

    ``keys`` are what ``order_of`` gives.
    """
    return bisect_left(keys, order_of(path) + _BEHIND_IT) if path else len(keys)


def above(path: str) -> Iterator[str]:
    """The directories that a path is in, the nearest first and the root, which is empty, last."""
    at = path.rfind("/")
    while at > 0:
        yield path[:at]
        at = path.rfind("/", 0, at)
    yield ""
