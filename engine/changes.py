"""What a container changed in its root file system: docker's ``diff``, from its upper directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from images.upperwalk import DIRECTORY_FLAGS, Level, UpperWalk, attribute_names, is_opaque, lower_directory

Kind: TypeAlias = Literal["C", "A", "D"]

NUMBERS: Final = {"C": 0, "A": 1, "D": 2}
"""What docker's API calls them."""

_OF_THE_ENGINE: Final = frozenset({"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/.dockerenv"})
"""Files that are mounted over: their mount points tell nothing."""


class Change(NamedTuple):
    """A path that was changed (C), added (A) or deleted (D). Bytes that are no UTF-8 are surrogates."""

    path: str
    kind: Kind


def changes(upper: Path, lower: Callable[[], int | None]) -> list[Change]:
    """What is in ``upper`` (an overlay's), sorted by path.

    lower: gives a descriptor of the merged layers below, which stays the caller's; None: there are none.
    """
    top = os.open(upper, DIRECTORY_FLAGS)
    try:
        walk = _Walk(top, lower)
        try:
            walk.begin()
            walk.run()
        finally:
            walk.close()
    finally:
        os.close(top)
    return sorted(walk.found.values())


class _Walk(UpperWalk[Level]):
    """Notes each thing that it meets, and the directories on the way as changed."""

    def __init__(self, root: int, open_lower: Callable[[], int | None]) -> None:
        super().__init__(root, open_lower)
        self.found: dict[str, Change] = {}

    def vanished(self, path: bytes) -> bool:  # noqa: ARG002 - the container may be running
        return True

    def begin(self) -> None:
        top = self.open_root()
        self.levels.append(Level(b"", top, None, os.fstat(top)))

    def directory(self, level: Level, name: bytes, path: bytes, info: os.stat_result) -> bool:
        fd = os.open(name, DIRECTORY_FLAGS, dir_fd=level.fd)
        below = None
        try:
            below = lower_directory(name, self.lower_of(level))
            self._note(path, "A" if below is None else "C")
            if below is not None and is_opaque(fd, attribute_names(fd, path)):
                kept = set(map(os.fsencode, os.listdir(fd)))
                for gone in set(map(os.fsencode, os.listdir(below))) - kept:
                    self._note(path + b"/" + gone, "D")
        except BaseException:
            os.close(fd)
            if below is not None:
                os.close(below)
            raise
        self.descend(Level(name, fd, below, info), path)
        return True

    def wants(self, level: Level, name: bytes, path: bytes) -> bool:
        self._note(path, "A" if self.lower_stat(level, name) is None else "C")
        return False

    def gone(self, level: Level, name: bytes, path: bytes) -> None:
        if self.lower_stat(level, name) is not None:
            self._note(path, "D")

    def _note(self, path: bytes, kind: Kind) -> None:
        shown = "/" + os.fsdecode(path)
        if shown in _OF_THE_ENGINE:
            return
        self.found[shown] = Change(shown, kind)
        above = os.path.dirname(shown)
        while above != "/" and above not in self.found:
            self.found[above] = Change(above, "C")
            above = os.path.dirname(above)
