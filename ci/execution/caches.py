"""The ``caches`` of one attempt of a job: what it begins with, and what becomes of what it wrote there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from functools import partial
from typing import Final

from ci.execution.ending import Ending
from ci.execution.keeping import why_not
from ci.execution.steps import Numbering
from ci.failedfiles import CachePlace
from ci.model import Cache
from ci.outcome import Given, JobTools
from containers.spec import Tree
from core.cancellation import check
from core.closing import Closing
from core.events import StepOutput
from images.generations import STILL_EMPTY, UNCHANGED, CacheName, Generation
from images.snapshots import Upper

OPENING: Final = "[internal] open caches"
KEEPING: Final = "[internal] keep caches"

_POLL_S: Final = 0.02
_AS_BEFORE: Final = (UNCHANGED, STILL_EMPTY)
"""Why nothing was kept, where there was nothing to keep."""


class JobCaches(Closing):
    """Made by: an attempt, before its workspace. Threads: one. Ended by: ``close``, which keeps nothing.

    began_ns: what is in the caches is of an earlier second, and nothing that the job writes is; in nanoseconds since
        the epoch. The files of the workspace get this time. None: the job has no caches.
    """

    def __init__(self, job: str, caches: Iterable[Cache], given: Given, tools: JobTools, numbering: Numbering) -> None:
        """Open them. Raises StorageFullError, and what ``check`` raises."""
        self._caches = tuple(caches)
        self._given = given
        self._tools = tools
        self._numbering = numbering
        self._opened: list[tuple[Generation, Upper]] = []
        self.began_ns: int | None = None
        with contextlib.ExitStack() as undo:
            if self._caches:
                with numbering.shown(OPENING) as step:
                    for cache in self._caches:
                        generation = self._open(job, cache, undo)
                        self._say(step.id, cache, generation.begins)
                self.began_ns = self._beginning()
            self._held = undo.pop_all()

    def places(self) -> tuple[CachePlace, ...]:
        """Which they are, for a shell in what the job leaves."""
        return tuple(
            CachePlace(str(cache.path), *generation.cache, cache.limit)
            for cache, (generation, _) in zip(self._caches, self._opened, strict=True)
        )

    def mounts(self) -> tuple[Tree, ...]:
        """What the container mounts, in this order."""
        return tuple(
            Tree(generation.layers, str(cache.path), upper=upper.path)
            for cache, (generation, upper) in zip(self._caches, self._opened, strict=True)
        )

    def keep(self, ending: Ending, *, is_private: bool) -> None:
        """Keep what the job wrote, once it has succeeded and its container has ended. A job is not failed by its cache.

        Raises JobCancelledError. A merge that is left so goes on with the next one who opens the cache.

        is_private: something took part in the job that not everybody may see.
        """
        if not self._caches or self._tools.domain.is_fork:
            return
        keep = partial(
            self._tools.store.generations.keep,
            domain=self._tools.domain,
            is_private=is_private,
            run=self._given.run,
        )
        with self._numbering.shown(KEEPING) as step:
            for cache, (generation, upper) in zip(self._caches, self._opened, strict=True):
                why = why_not(partial(keep, generation, upper.path), ending)
                self._say(step.id, cache, f"not kept: {why}" if why and why not in _AS_BEFORE else why or "kept")

    def close(self) -> None:
        self._held.close()

    def _open(self, job: str, cache: Cache, undo: contextlib.ExitStack) -> Generation:
        store, domain = self._tools.store, self._tools.domain
        owner = self._given.home if domain.is_host else domain.project
        name = str(cache.name) or f"{self._given.pipeline}: {job}: {cache.path}"
        generation = undo.enter_context(store.generations.open(CacheName(owner, name), domain, limit_bytes=cache.limit))
        upper = store.snapshots.new_upper(generation.layers)
        undo.callback(store.snapshots.discard, upper)
        self._opened.append((generation, upper))
        return generation

    def _beginning(self) -> int:
        """Wait until the clock shows another second than anything in the caches: many tools look at no more."""
        latest = int(max(generation.written_at for generation, _ in self._opened))
        while (now := int(time.time())) <= latest:
            check()
            time.sleep(_POLL_S)
        return now * 1_000_000_000

    def _say(self, step: int, cache: Cache, what: str) -> None:
        self._numbering.emit(StepOutput(step, 1, f"{cache.path}: {what}\n".encode("utf-8", "replace"), time.time()))
