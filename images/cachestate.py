"""What is known of one cache of jobs: its lanes, and the levels that their generations are made of.

A *level* is a directory that one job wrote above another level, as overlayfs leaves it. A *generation* is a level with
all those below it. A *lane* is whose generations these are: of the newest one it has the number of the level.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from core.files import write_atomically

ROOT: Final = 0
"""The parent of a level that lies on nothing."""

VERSION: Final = 1


class CacheLevel(msgspec.Struct):
    """One directory.

    parent: the level below it, or ``ROOT``.
    size_bytes: on disk.
    is_private: something that not everybody may see took part in it, or in what is below it.
    written_at: when its job had ended, in seconds since the epoch.
    boot: the machine's start since which it may be in memory alone; empty: it is on the disk.
    """

    parent: int
    size_bytes: int
    is_private: bool
    written_at: float
    boot: str


class CacheLane(msgspec.Struct):
    """One lane.

    label: as ``core.trust.Domain.label``.
    head: the level of its newest generation, by whatever number it has after merges.
    serial: tells that generation from all others.
    made_at: when it got its first one.
    run: the one that left the newest.
    stays: whether it stays, however long it is not used.
    """

    label: str
    head: int
    serial: int
    made_at: float
    run: str
    stays: bool


class CacheState(msgspec.Struct):
    """One cache. What is not named here is not there.

    owner, name: for people.
    next: the number of the next level.
    lanes: by the lane's scope.
    """

    owner: str
    name: str
    next: int = 1
    lanes: dict[str, CacheLane] = msgspec.field(default_factory=dict)
    levels: dict[int, CacheLevel] = msgspec.field(default_factory=dict)
    version: int = VERSION

    def chain(self, head: int) -> list[int]:
        """The levels of a generation, the lowest first."""
        found = []
        while head != ROOT:
            found.append(head)
            head = self.levels[head].parent
        return found[::-1]

    def needed(self) -> set[int]:
        """The levels that some lane has."""
        return {level for lane in self.lanes.values() for level in self.chain(lane.head)}

    def merges(self) -> Iterator[tuple[int, int]]:
        """Levels and those below them that nothing but this pair needs, the lowest first."""
        heads = {lane.head for lane in self.lanes.values()}
        children: dict[int, int] = {}
        for level in self.levels.values():
            children[level.parent] = children.get(level.parent, 0) + 1
        for number, level in sorted(self.levels.items()):
            if level.parent != ROOT and level.parent not in heads and children[level.parent] == 1:
                yield number, level.parent

    def shares(self) -> dict[str, int]:
        """What each lane takes on disk: a level of several counts for the one that stays, or else for the first."""
        counted: set[int] = set()
        found = {}
        for scope, lane in sorted(self.lanes.items(), key=lambda each: (not each[1].stays, each[1].made_at, each[0])):
            levels = set(self.chain(lane.head)) - counted
            counted |= levels
            found[scope] = sum(self.levels[level].size_bytes for level in levels)
        return found


class Journal(msgspec.Struct, frozen=True):
    """A merge that goes on.

    top, base: levels; the first is merged into the second.
    times: of the directories that both have: path in bytes, and the time in nanoseconds that it is to have.
    """

    top: int
    base: int
    times: list[tuple[bytes, int]]


def read_state(path: Path) -> CacheState | None:
    """None: there is none, or nobody can read it."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=CacheState)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    return found if found.version == VERSION and _is_whole(found) else None


def _is_whole(state: CacheState) -> bool:
    known = state.levels.keys() | {ROOT}
    # A level is younger than the one that it lies on: so no chain has a circle.
    is_tree = all(level.parent in known and level.parent < number for number, level in state.levels.items())
    return is_tree and all(lane.head in state.levels for lane in state.lanes.values())


def write_state(path: Path, state: CacheState) -> None:
    """Durable when it returns. Raises StorageFullError."""
    write_atomically(path, msgspec.json.encode(state), mode=0o600)


def read_journal(path: Path) -> Journal | None:
    """None: no merge goes on."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Journal)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def write_journal(path: Path, journal: Journal) -> None:
    """Durable when it returns. Raises StorageFullError."""
    write_atomically(path, msgspec.json.encode(journal), mode=0o600)
