"""Caches of jobs: directories that outlive runs, in generations, each whole and never changed while somebody sees it.

    caches/<key>.json           lanes and levels (cachestate.py); what is not in it does not exist
    caches/<key>.lock           flock: held for a moment by whoever reads or changes the others; never removed
    caches/<key>.journal        a merge that goes on; whoever takes the lock next completes it
    caches/<key>-<n>/fs         a level; flock on caches/<key>-<n>: shared by every job that sees it
    caches/<key>-<n>.aside/     what a merge has replaced, on its way out

A job sees the newest generation of its lane below a directory of its own. That becomes the next generation when the job
has succeeded, unless another was first. Then the levels that nobody sees become one, by renames (levelmerge.py), so
that no chain grows. Nothing of a level is changed while a process that sees it lives.

What a generation consists of is not fsynced when it is kept: ``settle`` does that, after the job. What was not on the
disk when the machine stopped begins empty.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from core.closing import Closing
from core.errors import StorageFullError
from core.files import storage_errors
from core.rootfs import DirectoryLayer
from core.trust import Domain, Scope, protected, scoped
from images.cachefiles import CacheFiles
from images.cachestate import ROOT, CacheLane, CacheLevel, CacheState, read_state

DIRECTORY: Final = "caches"
UNUSED_S: Final = 7 * 86400.0
"""How long lanes of branches stay after their last run."""

UNCHANGED: Final = "unchanged"
STILL_EMPTY: Final = "still empty: nothing was written to it"
"""Why nothing was kept of a job that wrote nothing there."""

_CLOCKS_S: Final = 0.01
"""Two times of files that are nearer to each other may be the same: the kernel's clock for them moves in steps."""

_KEY_DIGITS: Final = 32
_KEY: Final = re.compile(r"([0-9a-f]{32})\.json")


class CacheName(NamedTuple):
    """Which cache is meant.

    owner: whose it is: no two owners have a cache in common.
    name: what tells it apart from the owner's others, as people see it.
    """

    owner: str
    name: str

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.owner}\0{self.name}".encode("utf-8", "surrogateescape")).hexdigest()[:_KEY_DIGITS]


class KeptCache(NamedTuple):
    """One lane of a cache, as people look at it.

    id: of the lane.
    size_bytes: on disk, without what counts for another lane.
    made_at, used_at: seconds since the epoch.
    run: that left the newest generation.
    stays: whether it stays, however long it is not used.
    in_use: some job sees it.
    """

    id: str
    owner: str
    name: str
    lane: str
    size_bytes: int
    made_at: float
    used_at: float
    run: str
    stays: bool
    in_use: bool


class Generation(Closing):
    """What a job begins with, held until ``close``: nobody changes it, and nobody removes it.

    cache: whose generation it is.
    begins: with what, or why with nothing, for people.
    expected: the serial of the job's own lane; None: there is no such lane yet.
    layers: base first; none: the cache is empty.
    base: its topmost level.
    written_at: nothing in it is younger, in seconds since the epoch; 0: it is empty.
    is_kept: whether what is made of it may be kept.
    """

    def __init__(self, cache: CacheName, begins: str, expected: int | None = None, *, is_kept: bool = True) -> None:
        self.cache = cache
        self.begins = begins
        self.expected = expected
        self.layers: tuple[DirectoryLayer, ...] = ()
        self.base = ROOT
        self.written_at = 0.0
        self.is_kept = is_kept
        self._held: list[int] = []

    def begin_with(self, files: CacheFiles, state: CacheState, head: int) -> None:
        """Hold the generation with this head."""
        chain = state.chain(head)
        self._held = files.hold(chain)
        self.layers = tuple(DirectoryLayer(f"{files.path(level)}/fs") for level in chain)
        self.base = head
        self.written_at = max(state.levels[level].written_at for level in chain)

    def close(self) -> None:
        while self._held:
            os.close(self._held.pop())


class Generations:
    """The caches of jobs below a store's root; any number of threads and processes may use them at once."""

    def __init__(self, root: Path) -> None:
        self._top = root / DIRECTORY

    def open(self, cache: CacheName, domain: Domain, *, limit_bytes: int = 0, now: float | None = None) -> Generation:
        """What a job of this domain begins with: its lane's newest generation, or else the protected lane's.

        A fork sees the protected lane's, unless something that is not for everybody took part in it; and keeps nothing.
        limit_bytes: of more than that nothing is seen; 0: there is no limit. now: for tests.
        Waits while others look up or keep a generation of this cache, never for jobs. Raises what ``check`` raises.
        """
        files = CacheFiles(self._top, cache.key)
        with storage_errors("a cache"):
            self._top.mkdir(mode=0o711, exist_ok=True)
            with files.locked():
                try:
                    state = files.begun(cache.owner, cache.name)
                except StorageFullError:
                    return Generation(cache, "begins empty, and is not kept: no space left on the disk", is_kept=False)
                return _opened(files, state, cache, domain, limit_bytes, time.time() if now is None else now)

    def keep(
        self,
        generation: Generation,
        upper: str,
        domain: Domain,
        *,
        is_private: bool,
        run: str,
        now: float | None = None,
    ) -> str:
        """Make what a job wrote the next generation of its lane. Returns why it was not kept; empty: it was.

        upper: the directory with the job's ``fs``, above the generation, which no container has any more. When it is
            kept, it is taken away.
        is_private: something that not everybody may see took part.
        run: that of the job, for people.
        The generation is closed. Raises StorageFullError and OSError; nothing is changed then.
        """
        cache = generation.cache
        files = CacheFiles(self._top, cache.key)
        if domain.is_fork or not generation.is_kept:
            generation.close()
            return "forks keep nothing" if domain.is_fork else "no space left on the disk"
        with storage_errors("a cache"), files.locked():
            state = files.begun(cache.owner, cache.name)
            now = time.time() if now is None else now
            lane = state.lanes.get(domain.scope)
            generation.close()
            if (None if lane is None else lane.serial) != generation.expected:
                return "another job's was first, and stays"
            if (generation.base != ROOT or lane is None) and _is_empty(f"{upper}/fs"):
                return STILL_EMPTY if generation.base == ROOT else UNCHANGED
            below = state.levels.get(generation.base)
            is_private = is_private or (below is not None and below.is_private)
            stays = domain.is_host or domain == protected(domain.project)
            made = CacheLane(_label(domain), ROOT, ROOT, now if lane is None else lane.made_at, run, stays)
            files.append(state, upper, CacheLevel(generation.base, 0, is_private, now, _boot()), domain.scope, made)
            files.touch(made, now)
            with contextlib.suppress(StorageFullError):  # it is kept; the rest can wait
                return files.tidy(state, domain.scope)
            return ""

    def lanes(self) -> list[KeptCache]:
        """All lanes of all caches, by whose they are."""
        found = []
        for key, files in self._all():
            with files.locked():
                state = files.known()
                shares = state.shares()
                for scope, lane in state.lanes.items():
                    found.append(
                        KeptCache(
                            _id(key, scope), state.owner, state.name, lane.label, shares[scope], lane.made_at,
                            files.used_at(lane), lane.run, lane.stays, files.is_held(state.chain(lane.head)),
                        )
                    )  # fmt: skip
        return sorted(found, key=lambda each: (each.owner, each.name, each.lane))

    def remove(self, lane_id: str, until: float | None = None) -> int:
        """Remove a lane unless a job sees it; the bytes freed on disk. until: only if last used before this time."""
        for key, files in self._all():
            with files.locked():
                state = files.known()
                scope = next((scope for scope in state.lanes if _id(key, scope) == lane_id), None)
                if scope is None:
                    continue
                lane = state.lanes[scope]
                is_young = until is not None and files.used_at(lane) >= until
                return 0 if is_young or files.is_held(state.chain(lane.head)) else files.forget(state, scope)
        return 0

    def prune(self, now: float | None = None) -> int:
        """Remove lanes of branches that have not been used for too long; the bytes freed on disk. now: for tests."""
        before = (time.time() if now is None else now) - UNUSED_S
        freed = 0
        for key, files in self._all():  # without locks: each build comes here
            state = read_state(self._top / f"{key}.json")
            for scope, lane in [] if state is None else state.lanes.items():
                if not lane.stays and files.used_at(lane) < before:
                    freed += self.remove(_id(key, scope), before)
        return freed

    def settle(self) -> None:
        """Bring all that was kept to the disk, so that it is there when the machine stops. It takes as long as the disk
        does, and nobody waits for it. Raises OSError and StorageFullError.
        """
        waiting = [files for key, files in self._all() if _is_volatile(read_state(self._top / f"{key}.json"))]
        if not waiting:
            return
        from core.kernel import sync_filesystem

        began = time.time()
        sync_filesystem(self._top)
        for files in waiting:
            with files.locked():
                state = files.known()
                for level in state.levels.values():
                    if level.written_at < began:
                        level.boot = ""
                files.write(state)

    def _all(self) -> Iterator[tuple[str, CacheFiles]]:
        """Every cache, by its key."""
        try:
            names = sorted(os.listdir(self._top))
        except FileNotFoundError:
            return
        for name in names:
            if (found := _KEY.fullmatch(name)) is not None:
                yield found[1], CacheFiles(self._top, found[1])


def _opened(
    files: CacheFiles, state: CacheState, cache: CacheName, domain: Domain, limit_bytes: int, now: float
) -> Generation:
    own = None if domain.is_fork else state.lanes.get(domain.scope)
    lane, of = own, domain
    if lane is None and not domain.is_host:
        of = protected(domain.project)
        lane = state.lanes.get(of.scope)
    found = Generation(cache, "begins empty", None if own is None else own.serial, is_kept=not domain.is_fork)
    if lane is not None:
        why = _why_empty(files, state, lane, domain, limit_bytes, now)
        if why:
            found.begins = f"begins empty: {why}"
        else:
            found.begins = f"as run {lane.run} of {_label(of)} left it"
            found.begin_with(files, state, lane.head)
            files.touch(lane, now)
    return found


def _why_empty(
    files: CacheFiles, state: CacheState, lane: CacheLane, domain: Domain, limit_bytes: int, now: float
) -> str:
    """Why a job does not see what the lane has; empty: it does."""
    chain = state.chain(lane.head)
    levels = [state.levels[number] for number in chain]
    size_bytes = sum(level.size_bytes for level in levels)
    if domain.is_fork and any(level.is_private for level in levels):
        return "what is kept is not for forks"
    if not all(os.path.isdir(f"{files.path(number)}/fs") for number in chain):
        return "somebody has removed its files"
    if limit_bytes and size_bytes > limit_bytes:
        return f"it had {_megabytes(size_bytes)}, and its limit is {_megabytes(limit_bytes)}"
    if any(level.boot not in ("", _boot()) for level in levels):
        return "the machine had stopped before all of it was on the disk"
    if max(level.written_at for level in levels) > now + _CLOCKS_S:
        return "it is younger than this machine's clock says that it is now"
    return ""


def _label(domain: Domain) -> str:
    return "this machine" if domain.is_host else domain.label


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.4g} MB"


def _is_empty(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def _is_volatile(state: CacheState | None) -> bool:
    return state is not None and any(level.boot for level in state.levels.values())


def _id(key: str, scope: Scope) -> str:
    return scoped(key, scope)[:_KEY_DIGITS]


def _boot() -> str:
    """What tells this start of the machine from others."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
