"""Single looks at what a job sees of its workspace: its upper directory over the merged view of the layers below."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from core.cancellation import check
from dockerfile_grammar import IgnorePatterns
from images.upperwalk import DIRECTORY_FLAGS, attribute_names, is_opaque, is_whiteout


class Found(NamedTuple):
    """What is at a path, or in its way: the first thing that is no directory.

    path: where it is.
    mode: as in ``st_mode``.
    """

    path: str
    mode: int


class _Place(NamedTuple):
    """A path, and which of the two trees have a directory there that counts."""

    path: str
    is_upper: bool
    is_lower: bool


class View:
    """The two trees. Links are never followed.

    upper: a descriptor.
    lower: gives a descriptor; None: no layer has anything.
    """

    def __init__(self, upper: int, lower: Callable[[], int | None]) -> None:
        self._upper = upper
        self._lower = lower

    def find(self, path: str) -> Found | None:
        """What is at a relative path, or in its way; None: nothing."""
        place, found = _Place("", True, True), None
        for name in path.split("/"):
            step = self._step(place, name)
            if step is None:
                return None
            place, mode = step
            found = Found(place.path, mode)
            if not stat.S_ISDIR(mode):
                break
        return found

    def has_below(self, pattern: IgnorePatterns) -> bool:
        """Whether the pattern means a file or link that a layer has, and that is still there."""
        pending = [_Place("", True, True)]
        while pending:
            place = pending.pop()
            for name in self._lower_names(place.path):
                check()
                step = self._step(place, name)
                if step is None:
                    continue
                below, mode = step
                if not stat.S_ISDIR(mode):
                    if pattern.matches(below.path):
                        return True
                elif below.is_lower and (pattern.matches(below.path) or pattern.reaches_below(below.path)):
                    pending.append(below)
        return False

    def _step(self, place: _Place, name: str) -> tuple[_Place, int] | None:
        """What has this name in a directory."""
        path = f"{place.path}/{name}" if place.path else name
        if place.is_upper:
            info = _stat(self._upper, path)
            if info is not None:
                if is_whiteout(info, os.fsencode(path), self._upper):
                    return None
                is_lower = stat.S_ISDIR(info.st_mode) and place.is_lower and not self._is_opaque(path)
                return _Place(path, True, is_lower), info.st_mode
        lower = self._lower() if place.is_lower else None
        info = None if lower is None else _stat(lower, path)
        return None if info is None else (_Place(path, False, True), info.st_mode)

    def _is_opaque(self, path: str) -> bool:
        fd = os.open(path, DIRECTORY_FLAGS, dir_fd=self._upper)
        try:
            return is_opaque(fd, attribute_names(fd, os.fsencode(path)))
        finally:
            os.close(fd)

    def _lower_names(self, path: str) -> list[str]:
        lower = self._lower()
        if lower is None:
            return []
        try:
            fd = os.open(path or ".", DIRECTORY_FLAGS, dir_fd=lower)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)


def _stat(directory: int, path: str) -> os.stat_result | None:
    """The parents are known to be directories."""
    try:
        return os.stat(path, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
