"""The shared build cache for what a pipeline's job builds: its image, or the one that it runs in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from builder.cacheio.used import UsedCache
from builder.request.cache import CacheFrom
from core.references import Reference
from pipelines.owning.policies import RunAsks
from worker.cacheexport import CacheExport
from worker.sharedcache import shared_caches_of_job, shared_target
from worker.work import Work, is_trusted, names_a_registry


class JobCaches:
    """A ``ci.outcome.BuildCaches``. exports: what is to be written once the job has succeeded; at most one."""

    def __init__(self, work: Work, asks: RunAsks, pipeline: str) -> None:
        self._work = work
        self._asks = asks
        self._pipeline: Final = pipeline
        self.exports: list[CacheExport] = []

    def read(self, what: Sequence[str], names: tuple[Reference, ...]) -> tuple[CacheFrom, ...]:
        registry = self._work.resources.service.settings.registry
        return shared_caches_of_job(self._asks.domain, registry, (self._pipeline, *what), names)

    def leave(self, read: tuple[CacheFrom, ...], used: UsedCache, names: tuple[Reference, ...]) -> None:
        place = shared_target(read)
        if place is not None:
            near = tuple(str(name) for name in names if names_a_registry(name))
            self.exports.append(CacheExport(self._work.claim, self._asks, place, near, used))


def caches_of(work: Work, asks: RunAsks, pipeline: str) -> JobCaches | None:
    """None for the runs of strangers, and where workers share nothing. pipeline: its file."""
    shares = work.resources.service.settings.shared_cache and is_trusted(work.claim)
    return JobCaches(work, asks, pipeline) if shares else None
