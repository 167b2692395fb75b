"""One cache of jobs on the disk: its state, its levels, and what is done with them by whoever holds its lock.

Every change can be killed at any instant: the state names what there is, and is replaced as a whole. A level
becomes part of it after it was renamed here. A merge is announced in the journal first; whoever takes the lock next
completes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from core.cancellation import check
from core.errors import StorageFullError
from core.files import could_lock
from core.trust import Scope
from images.cachestate import (
    ROOT,
    CacheLane,
    CacheLevel,
    CacheState,
    Journal,
    read_journal,
    read_state,
    write_journal,
    write_state,
)
from images.levelmerge import merge, merged_times
from images.trees import remove_tree, tree_bytes

MOST_LEVELS: Final = 8

_POLL_S: Final = 0.02
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class CacheFiles:
    """The files of the cache ``key`` below ``top``, for who holds its lock."""

    def __init__(self, top: Path, key: str) -> None:
        self._top = top
        self._key = key
        self._state = top / f"{key}.json"
        self._journal = top / f"{key}.journal"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock. Raises what ``check`` raises while it waits."""
        fd = os.open(self._top / f"{self._key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not could_lock(fd, fcntl.LOCK_EX):
                check()
                time.sleep(_POLL_S)
            yield
        finally:
            os.close(fd)

    def path(self, level: int) -> str:
        """The directory of a level, which has its files in ``fs``."""
        return f"{self._top}/{self._key}-{level}"

    def begun(self, owner: str, name: str) -> CacheState:
        """The state, once what was begun has been completed; a new one where there is none.

        Raises StorageFullError while a merge cannot be completed.
        """
        state = read_state(self._state)
        if state is None:
            state = CacheState(owner, name)
            self._remove_unknown(state)
            return state
        self._complete(state)
        return state

    def known(self) -> CacheState:
        """The state, for who looks; what was begun is completed as far as the disk has room."""
        state = read_state(self._state) or CacheState("", "")
        with contextlib.suppress(StorageFullError):
            self._complete(state)
        return state

    def write(self, state: CacheState) -> None:
        """Replace the state; durable when it returns. Raises StorageFullError."""
        write_state(self._state, state)

    def hold(self, levels: Iterable[int]) -> list[int]:
        """Descriptors that keep these levels as they are until they are closed."""
        held: list[int] = []
        for level in levels:
            held.append(os.open(self.path(level), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            fcntl.flock(held[-1], fcntl.LOCK_SH)
        return held

    def is_held(self, levels: Iterable[int]) -> bool:
        """Whether a job sees one of these."""
        for level in levels:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(self.path(level), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    if not could_lock(fd, fcntl.LOCK_EX):
                        return True
                finally:
                    os.close(fd)
        return False

    def touch(self, lane: CacheLane, at: float) -> None:
        """Note that a lane is used."""
        os.utime(self.path(lane.head), (at, at))

    def used_at(self, lane: CacheLane) -> float:
        """When a lane was used last, in seconds since the epoch."""
        try:
            return os.stat(self.path(lane.head)).st_mtime
        except FileNotFoundError:
            return lane.made_at

    def append(self, state: CacheState, upper: str, level: CacheLevel, scope: Scope, lane: CacheLane) -> None:
        """Take what a job wrote in ``upper`` as the next level, which is the head of its lane; durable on return.

        lane: without its head and serial. Raises StorageFullError and OSError; then nothing has changed on the disk.
        """
        remove_tree(f"{upper}/work")
        level.size_bytes = tree_bytes(f"{upper}/fs")
        lane.head = lane.serial = state.next
        path = self.path(lane.head)
        os.rename(upper, path)
        try:
            state.levels[lane.head] = level
            state.lanes[scope] = lane
            state.next += 1
            self.write(state)
        except BaseException:
            remove_tree(path)
            raise

    def tidy(self, state: CacheState, kept: Scope) -> str:
        """Remove what no lane has, and merge what no job sees, so that no chain grows.

        kept: the lane that has just got a generation. Where it has too many levels, other lanes go; first the one that
        was not used for longest. Returns why the cache is lost; empty: it is not. Raises StorageFullError.
        """
        self.sweep(state)
        why = self._merge_all(state)
        others = [scope for scope, lane in state.lanes.items() if scope != kept and not lane.stays]
        for scope in sorted(others, key=lambda each: self.used_at(state.lanes[each])):
            if kept not in state.lanes or len(state.chain(state.lanes[kept].head)) <= MOST_LEVELS:
                break
            if not self.is_held(state.chain(state.lanes[scope].head)):
                del state.lanes[scope]
                self.sweep(state)
                why = why or self._merge_all(state)
        return why

    def sweep(self, state: CacheState) -> int:
        """Remove the levels that no lane has and no job sees; returns the bytes freed. Raises StorageFullError."""
        needed, is_changed = state.needed(), False
        while True:
            parents = {level.parent for level in state.levels.values()}
            gone = [
                number
                for number in state.levels
                if number not in needed and number not in parents and not self.is_held([number])
            ]
            if not gone:
                break
            is_changed = True
            for number in gone:
                del state.levels[number]
        if not is_changed:
            return 0
        self.write(state)
        return self._remove_unknown(state)

    def forget(self, state: CacheState, scope: Scope) -> int:
        """Remove a lane, and what only it had; returns the bytes freed. Raises StorageFullError."""
        del state.lanes[scope]
        self.write(state)
        return self.sweep(state)

    def _merge_all(self, state: CacheState) -> str:
        while True:
            pair = next((pair for pair in state.merges() if not self.is_held(pair)), None)
            if pair is None:
                return ""
            top, base = pair
            try:
                times = merged_times(f"{self.path(top)}/fs", f"{self.path(base)}/fs")
                write_journal(self._journal, Journal(top, base, times))
                self._merge(state, Journal(top, base, times))
            except (OSError, StorageFullError) as error:
                if _is_full(error):
                    return ""  # it goes on when there is room
                return self._lose(state, top, error)

    def _merge(self, state: CacheState, journal: Journal) -> None:
        """Carry a merge out, or go on with it. Raises OSError and StorageFullError."""
        top, base = journal.top, journal.base
        upper, lower = state.levels[top], state.levels[base]
        aside = Path(f"{self.path(base)}.aside")
        was_begun = aside.exists()
        aside.mkdir(mode=0o700, exist_ok=True)
        is_lowest = lower.parent == ROOT
        freed = merge(f"{self.path(top)}/fs", f"{self.path(base)}/fs", str(aside), journal.times, is_lowest=is_lowest)
        freed += remove_tree(str(aside))
        size_bytes = tree_bytes(self.path(base)) if was_begun else lower.size_bytes + upper.size_bytes - freed
        lower.size_bytes = max(0, size_bytes)
        lower.is_private |= upper.is_private
        lower.written_at = max(lower.written_at, upper.written_at)
        lower.boot = upper.boot
        used_at = os.stat(self.path(top)).st_mtime
        for level in state.levels.values():
            if level.parent == top:
                level.parent = base
        for lane in state.lanes.values():
            if lane.head == top:
                lane.head = base
        del state.levels[top]
        self.write(state)
        os.utime(self.path(base), (used_at, used_at))
        os.unlink(self._journal)
        remove_tree(self.path(top))

    def _lose(self, state: CacheState, top: int, error: Exception) -> str:
        """Forget what lies on a level that cannot be merged: half of it would be neither."""
        for scope, lane in [*state.lanes.items()]:
            if top in state.chain(lane.head):
                del state.lanes[scope]
        self.write(state)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._journal)
        self.sweep(state)
        return f"it begins empty next time: its generations cannot become one ({error})"

    def _complete(self, state: CacheState) -> None:
        """Complete a merge, and remove what a killed process left."""
        journal = read_journal(self._journal)
        if journal is not None and not {journal.top, journal.base} <= state.levels.keys():
            os.unlink(self._journal)  # it has ended
            journal = None
        if journal is None:
            self._remove_unknown(state)
            return
        try:
            self._merge(state, journal)
        except (OSError, StorageFullError) as error:
            if _is_full(error):
                raise StorageFullError("no space left on the disk for a merge of a cache") from error
            self._lose(state, journal.top, error)

    def _remove_unknown(self, state: CacheState) -> int:
        """Remove what a killed process left: levels that were never entered, and files that were never finished."""
        known = {os.path.basename(self.path(number)) for number in state.levels}
        begins = (f"{self._key}-", f".{self._key}.")
        with os.scandir(self._top) as entries:
            gone = [entry.path for entry in entries if entry.name.startswith(begins) and entry.name not in known]
        freed = 0
        for path in gone:
            if os.path.isdir(path):
                freed += remove_tree(path)
            else:
                os.unlink(path)
        return freed


def _is_full(error: Exception) -> bool:
    return isinstance(error, StorageFullError) or (isinstance(error, OSError) and error.errno in _FULL)
