"""The files that one build copies from its contexts. Each directory is read at most once, whoever asks."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Final

from builder.contexts.context import Context
from builder.copying.job import CopyFrom, CopyJob, SharedStatCache

if TYPE_CHECKING:
    from builder.graph.copyspec import CopySpec
    from builder.request.request import BuildRequest
    from images.store import Store

_STAT_CACHE: Final = "context"


class ContextFiles:
    """The files of one build's contexts. Any number of threads may use this object."""

    def __init__(self, request: BuildRequest, store: Store) -> None:
        self._store = store
        self._contexts = {"": request.context}
        self._contexts |= {name: it for name, it in request.named_contexts.items() if isinstance(it, Context)}
        self._stat_caches = {
            name: SharedStatCache(functools.partial(self._load, context)) for name, context in self._contexts.items()
        }
        self._name = request.context_name
        self._lock = threading.Lock()
        self._kept: dict[CopySpec, CopyJob] = {}
        self._contents: dict[CopySpec, str] = {}

    def part(self, spec: CopySpec, context: str = "") -> CopyFrom:
        """The part of a copy job that takes files from one context."""
        opened = self._contexts[context]
        shared = self._stat_caches[context] if opened.contents is None else None
        return CopyFrom(spec, lambda stack: opened.tree(), shared)  # noqa: ARG005

    def job(self, spec: CopySpec) -> CopyJob:
        """A copy job from the build context alone: the one that ``content`` has begun, else a new one."""
        with self._lock:
            kept = self._kept.pop(spec, None)
        return kept or self._new_job(spec)

    def _new_job(self, spec: CopySpec) -> CopyJob:
        from builder.copying.earlierlayer import CopiedLayer

        note = functools.partial(self._contents.__setitem__, spec)
        last = CopiedLayer(self._store, self._name, spec) if self._name else None
        return CopyJob(self.part(spec), note=note, last=last)

    def content(self, spec: CopySpec) -> str:
        """The digest of the files that ``spec`` now selects from the build context. Raises CopyError and ContextError.

        The results are kept for ``job``.
        """
        job = self.job(spec)
        content = job.digest()
        with self._lock:
            self._kept[spec] = job
        return content

    def known_content(self, spec: CopySpec) -> str | None:
        """The digest, if this build has already found it out."""
        return self._contents.get(spec)

    def save(self) -> None:
        """Remember the digests of the contexts' files for the next build."""
        for name, context in self._contexts.items():
            if context.key and (data := self._stat_caches[name].dump()) is not None:
                self._store.cache.memo_put(_STAT_CACHE, context.key, data)

    def _load(self, context: Context) -> bytes | None:
        return self._store.cache.memo_get(_STAT_CACHE, context.key) if context.key else None
