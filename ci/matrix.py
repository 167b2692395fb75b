"""A job for each combination of a matrix's values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TypeAlias

from ci.model import Directories, Matrix

Combination: TypeAlias = Mapping[str, str]


def axes(matrix: Matrix) -> tuple[str, ...]:
    """The names that each combination has a value for, in the order of the file."""
    return tuple(matrix.lists) or tuple(matrix.include[0])


def combinations(matrix: Matrix, directories: Callable[[str], tuple[str, ...]]) -> list[Combination]:
    """All combinations, in the order of the file: the last list changes first. None is there twice. All is plain text.

    directories: the names of the commit's directories that fit a pattern, sorted.
    """
    lists = [
        directories(values.pattern) if isinstance(values, Directories) else values for values in matrix.lists.values()
    ]
    found: dict[tuple[tuple[str, str], ...], Combination] = {}
    for values in itertools.product(*lists) if lists else ():
        combination = dict(zip(map(str, matrix.lists), map(str, values), strict=True))
        if not any(_fits(excluded, combination) for excluded in matrix.exclude):
            found.setdefault(tuple(combination.items()), combination)
    for included in matrix.include:
        combination = {str(name): str(included[name]) for name in axes(matrix)}
        found.setdefault(tuple(combination.items()), combination)
    return list(found.values())


def is_settled(matrix: Matrix) -> bool:
    """Whether the file alone says which combinations there are."""
    return not any(isinstance(values, Directories) for values in matrix.lists.values())


def may_be_several(matrix: Matrix | None) -> bool:
    """Whether a run may have more than one job of it. None: no matrix."""
    return matrix is not None and (not is_settled(matrix) or size(matrix) > 1)


def name_of(job: str, combination: Combination) -> str:
    """What the job of a combination is called: ``test (3.11, postgres)``."""
    return f"{job} ({', '.join(combination.values())})"


def size(matrix: Matrix) -> int:
    """At most so many combinations, before any is excluded or left out for being there twice; those of directories
    count as one value.
    """
    count = 1 if matrix.lists else 0
    for values in matrix.lists.values():
        count *= 1 if isinstance(values, Directories) else len(values)
    return count + len(matrix.include)


def _fits(part: Combination, combination: Combination) -> bool:
    return all(combination.get(name) == value for name, value in part.items())
