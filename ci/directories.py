"""Directories of a working tree that fit a pattern, for matrices that have a job for each of them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ci.patterns import compiled, is_literal, literal_start
from core.cancellation import check

_DEEPEST: Final = 20
_OWN: Final = frozenset({".git"})


def directories_of(root: Path, pattern: str) -> tuple[str, ...]:
    """The names of the directories that fit, sorted. Links are not followed.

    A directory fits by its own path: ``services/*`` means those in ``services``, and none below them. Its name is its
    path below the part of the pattern without wildcards, so that no two have the same: ``a`` of ``services/a``.
    """

    def below(above: str) -> list[str]:
        with os.scandir(root / above) as entries:
            return [f"{above}/{entry.name}".lstrip("/") for entry in entries if _is_directory(entry)]

    return fitting(below, pattern)


def fitting(below: Callable[[str], Iterable[str]], pattern: str) -> tuple[str, ...]:
    """As ``directories_of``. below: gives the paths of the directories that are right in one; the root is ``""``."""
    start = literal_start(pattern)
    above_all = f"{posixpath.dirname(start) if is_literal(pattern) else start}/".lstrip("/")
    return tuple(path.removeprefix(above_all) for path in sorted(_paths(below, pattern)))


def _paths(below: Callable[[str], Iterable[str]], pattern: str) -> list[str]:
    depth = pattern.strip("/").count("/") + 1 if "**" not in pattern else _DEEPEST
    found: list[str] = []
    waiting = [""]
    matches = compiled([pattern])
    while waiting:
        above = waiting.pop()
        check()
        for path in below(above):
            if matches.matches(path) and not (above and matches.matches(above)):
                found.append(path)
            elif path.count("/") + 1 < depth:
                waiting.append(path)
    return found


def _is_directory(entry: os.DirEntry[str]) -> bool:
    return entry.name not in _OWN and entry.is_dir(follow_symlinks=False)
