"""From plan to layers: each chain of the plan in a thread of its own, each step answered by the cache or executed.

What makes it fast: a step's layer is written behind the next step's back (``LayerWriter``), so that a chain of RUNs
waits for commands only; and a step waits for the digest of the layer below only when the cache has a result of the
same operation that this digest could select (early cutoff).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from builder.buildcache import BuildCache
from builder.copyjob import CopyJob
from builder.errors import BuildCancelledError, BuilderError, LayerLostError
from builder.execution import Executor, files_of
from builder.failures import StepError
from builder.graph import BaseOp, Chain, CopyOp, GitOp, HttpOp, Plan, RunOp, Vertex, WorkdirOp, cache_key, op_digest
from builder.layerwriter import LayerWriter
from builder.promise import Promise
from builder.rootfs import LayerHandle, RootFS, WrittenLayer
from containers.errors import MountError, UserError
from core.events import Monitor, Outcome, StepFinished, StepStarted
from images.records import CacheRecord


class Solution(msgspec.Struct, frozen=True):
    """The target's filesystem, and how many steps ran or came from the cache."""

    rootfs: RootFS
    executed: int
    cached: int


# Errors that say something of the instruction: shown with its place. Others are the host's or the store's.
_OF_THE_INSTRUCTION = (BuilderError, MountError, UserError)
_CHANGED = "its files, or the filesystem it starts from, have changed"


class Solver:
    """Solves one plan, once."""

    def __init__(
        self,
        cache: BuildCache,
        executor: Executor,
        monitor: Monitor,
        *,
        no_cache: Callable[[Vertex], bool],
        cancelled: threading.Event,
    ) -> None:
        self._cache = cache
        self._executor = executor
        self._monitor = monitor
        self._no_cache = no_cache
        self._cancelled = cancelled
        self._results: dict[Vertex, Promise[RootFS]] = {}
        self._counts = {"done": 0, "cached": 0}
        self._lock = threading.Lock()
        self._executed: dict[Vertex, str | None] = {}
        self._runs_expected = False
        self._first_error: BaseException | None = None
        self._failed = threading.Event()

    def solve(self, plan: Plan) -> Solution:
        """Run what the target needs. Raises the first error; then every other step has been stopped and has ended."""
        while True:
            try:
                return self._attempt(plan)
            except LayerLostError:
                # What a cache from elsewhere answered cannot be had. It will not say so again, and what has run is in
                # the store: everything is asked anew.
                self._cache.start_again()
                self._counts = {"done": 0, "cached": 0}
                self._first_error = None
                self._failed.clear()

    def _attempt(self, plan: Plan) -> Solution:
        self._results = {vertex: Promise() for vertex in plan.vertices()}
        self._runs_expected = any(isinstance(vertex.op, RunOp) for vertex in plan.vertices())
        if len(plan.chains) == 1:
            self._run_chain(plan.chains[0])
        else:
            threads = [
                threading.Thread(target=self._run_chain, args=(chain,), name=f"stage {chain.name}")
                for chain in plan.chains
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if self._first_error is not None:
            raise self._first_error
        result = plan.image.result
        rootfs = self._results[result].wait() if result is not None else RootFS()
        self._cache.provide(rootfs.diff_ids())
        return Solution(rootfs, self._counts["done"], self._counts["cached"])

    @property
    def stopped(self) -> bool:
        """Whether steps ought to end: the user cancelled, or another step failed."""
        return self._cancelled.is_set() or self._failed.is_set()

    def _run_chain(self, chain: Chain) -> None:
        writer = LayerWriter(f"layers of {chain.name}", self._fail)
        try:
            for vertex in chain.vertices:
                if self.stopped:
                    raise BuildCancelledError("cancelled")
                self._results[vertex].resolve(self._solve_vertex(vertex, writer))
        except BaseException as error:
            self._fail(error)
            for vertex in chain.vertices:
                if self._results[vertex].pending:
                    self._results[vertex].fail(error)
        finally:
            writer.finish()

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            # A step that was stopped because another one failed is not the cause.
            if self._first_error is None or isinstance(self._first_error, BuildCancelledError):
                self._first_error = error
        self._failed.set()

    # One step

    def _solve_vertex(self, vertex: Vertex, writer: LayerWriter) -> RootFS:
        parent = self._results[vertex.input].wait() if vertex.input is not None else RootFS()
        sources = tuple(self._results[source].wait() for source in vertex.sources)
        self._monitor.emit(StepStarted(vertex.step.id, time.time()))
        start = time.monotonic()
        if isinstance(vertex.op, BaseOp):
            self._finish(vertex, "done", start)
            return RootFS(tuple(LayerHandle.known(diff_id) for diff_id in vertex.op.diff_ids))
        try:
            if isinstance(vertex.op, CopyOp):
                with self._executor.copy_job(vertex, vertex.op, sources) as job:
                    layer, reason = self._solve_copy(vertex, vertex.op, job, parent, sources, writer)
            elif isinstance(vertex.op, (HttpOp, GitOp)):
                fetched = self._executor.fetch(vertex.op, lambda: self.stopped)
                self._finish(vertex, "cached" if fetched.cached else "done", start)
                return RootFS((LayerHandle.known(fetched.diff_id, fetched.created_at),))
            else:
                layer, reason = self._solve_plain(vertex, vertex.op, parent, sources, writer)
        except LayerLostError:
            raise
        except BuildCancelledError:
            self._finish(vertex, "cancelled", start)
            raise
        except BaseException as error:
            self._finish(vertex, "failed", start, str(error))
            if isinstance(error, _OF_THE_INSTRUCTION) and not isinstance(error, StepError):
                raise StepError(error.message, step=vertex.step, lines=vertex.lines, hint=error.hint) from error
            raise
        self._count(vertex, "cached" if reason is None else "done", start, reason)
        return parent.with_layer(layer)

    def _solve_plain(
        self,
        vertex: Vertex,
        op: RunOp | WorkdirOp,
        parent: RootFS,
        sources: tuple[RootFS, ...],
        writer: LayerWriter,
    ) -> tuple[LayerHandle, str | None]:
        """RUN and WORKDIR. Returns why it ran, None if it did not."""
        digest = op_digest(op)
        reason = self._why_not_asked(vertex, digest)
        if reason is None:
            record = self._ran_before(op, digest, parent, sources)
            if record is not None:
                return _from_record(record), None
            reason = _CHANGED
        self._expect_runs()
        start = time.monotonic()
        if isinstance(op, WorkdirOp):
            made = WrittenLayer(self._executor.make_workdir(op, parent), time.time())
            duration_s = time.monotonic() - start

            def remember() -> None:
                self._record(vertex, digest, cache_key(digest, parent.identity()), made, duration_s)

            writer.add(remember, _nobody_waits)
            return LayerHandle.known(made.diff_id, made.created_at), reason
        upper = self._executor.run(vertex, op, parent, sources, lambda: self.stopped)
        ended, duration_s = time.time(), time.monotonic() - start
        layer = LayerHandle(directory=files_of(upper))

        def write() -> None:
            written = WrittenLayer(self._executor.write_upper(vertex, upper, parent), ended)
            for key in self._run_keys(op, digest, parent, sources):
                self._record(vertex, digest, key, written, duration_s)
            layer.written.resolve(written)

        writer.add(write, layer.written.fail)
        return layer, reason

    def _ran_before(
        self, op: RunOp | WorkdirOp, digest: str, parent: RootFS, sources: tuple[RootFS, ...]
    ) -> CacheRecord | None:
        missed: list[str] = []
        for key in self._run_keys(op, digest, parent, sources):
            record = self._cache.get(key)
            if record is not None:
                for other in missed:
                    self._cache.put(record._replace(key=other))
                return record
            missed.append(key)
        return None

    def _run_keys(
        self, op: RunOp | WorkdirOp, digest: str, parent: RootFS, sources: tuple[RootFS, ...]
    ) -> Iterator[str]:
        """The keys of a step's result, the one that is found out with less work first."""
        if not sources or not isinstance(op, RunOp):
            yield cache_key(digest, parent.identity())
            return
        for content in self._executor.mounted_contents(op, sources):
            yield cache_key(digest, parent.identity(), content)

    def _expect_runs(self) -> None:
        """A step is not in the cache, so the RUNs after it will probably run: have the launcher start meanwhile."""
        with self._lock:
            expected, self._runs_expected = self._runs_expected, False
        if expected:
            self._executor.expect_runs()

    def _solve_copy(
        self,
        vertex: Vertex,
        op: CopyOp,
        job: CopyJob,
        parent: RootFS,
        sources: tuple[RootFS, ...],
        writer: LayerWriter,
    ) -> tuple[LayerHandle, str | None]:
        """COPY and ADD: as ``_solve_plain``, with the content of the files in the key."""
        digest = op_digest(op)
        reason = self._why_not_asked(vertex, digest)
        if reason is None:
            record = self._copied_before(digest, job, _chain(op, parent), _whole(op, sources))
            if record is not None:
                return _from_record(record), None
            reason = _CHANGED
        self._expect_runs()
        start = time.monotonic()
        written = WrittenLayer(self._executor.copy(job, op, parent), time.time())
        content = job.digest()  # after writing, when every file has been hashed on its way into the layer
        duration_s = time.monotonic() - start
        contents = [content, *_whole(op, sources)]

        def remember() -> None:
            for each in contents:
                self._record(vertex, digest, cache_key(digest, _chain(op, parent), each), written, duration_s)

        writer.add(remember, _nobody_waits)
        return LayerHandle.known(written.diff_id, written.created_at), reason

    def _copied_before(self, digest: str, job: CopyJob, chain: str, whole: list[str]) -> CacheRecord | None:
        known = [cache_key(digest, chain, content) for content in whole]
        for key in known:
            # The sources' filesystems are as they were: their files need not be read.
            if (record := self._cache.get(key)) is not None:
                return record
        record = self._cache.get(cache_key(digest, chain, job.digest()))
        if record is not None:
            for key in known:
                self._cache.put(record._replace(key=key))
        return record

    def _why_not_asked(self, vertex: Vertex, digest: str) -> str | None:
        """Why the cache need not be asked at all, empty when the user knows why; None when it is to be asked."""
        if self._no_cache(vertex) and vertex not in self._executed:
            return ""
        # An operation without any record cannot hit: that is known before the layer below has been written.
        return None if self._cache.has_op(digest) else "not built before"

    def _record(self, vertex: Vertex, digest: str, key: str, written: WrittenLayer, duration_s: float) -> None:
        self._cache.put(
            CacheRecord(
                key=key,
                op=digest,
                diff_id=written.diff_id,
                created_at=written.created_at,
                duration_s=duration_s,
                description=vertex.step.name,
            )
        )

    # What the user sees

    def _count(self, vertex: Vertex, outcome: Literal["done", "cached"], start: float, reason: str | None) -> None:
        with self._lock:
            if outcome == "done":
                self._executed[vertex] = reason
            elif vertex in self._executed:  # by an attempt before this one
                outcome, reason = "done", self._executed[vertex]
            self._counts[outcome] += 1
        self._finish(vertex, outcome, start, reason)

    def _finish(self, vertex: Vertex, outcome: Outcome, start: float, reason: str | None = None) -> None:
        self._monitor.emit(StepFinished(vertex.step.id, outcome, time.monotonic() - start, time.time(), reason or None))


def _from_record(record: CacheRecord) -> LayerHandle:
    assert record.diff_id is not None  # every step leaves a layer, be it an empty one
    return LayerHandle.known(record.diff_id, record.created_at)


def _chain(op: CopyOp, parent: RootFS) -> str:
    """What a copy's result depends on besides the files: the filesystem below, unless it never looks at it."""
    from builder.copying import needs_rootfs

    return parent.identity() if needs_rootfs(op.spec) else ""


def _nobody_waits(error: BaseException) -> None:
    """A record that could not be written is reported by the writer itself; no step depends on it."""


def _whole(op: CopyOp, sources: tuple[RootFS, ...]) -> list[str]:
    """What stands for the content of all files of the sources, so that none has to be read; nothing for a context."""
    if any(part.source is None for part in op.parts):
        return []
    return [" ".join(f"all of {source.identity()}" for source in sources)]
