"""From plan to layers: each chain of the plan in a thread of its own, each step answered by the cache or executed.

Two things make it fast. A step's layer is written behind the next step's back (``LayerWriter``), so a chain of RUNs
waits for commands only. And a step waits for the digest of the layer below only when this digest could select a result:
when the cache has one of the same operation (early cutoff).
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from builder.cacheio.buildcache import BuildCache
from builder.cacheio.classes import StepClass, StepClasses
from builder.copying.job import CopyJob
from builder.copying.owners import UnknownName
from builder.errors import BuildCancelledError, BuilderError, ContextDamagedError, CopyError, LayerLostError, stop_when
from builder.explaining.details import may_name_owner
from builder.explaining.why import Explainer, StepAnswer
from builder.graph.promise import Promise
from builder.graph.rootfs import LayerHandle, RootFS, WrittenLayer
from builder.graph.vertices import (
    BaseOp,
    Chain,
    CopyOp,
    GitOp,
    HttpOp,
    LayerOp,
    Plan,
    RunOp,
    Vertex,
    WorkdirOp,
    cache_key,
    op_digest,
)
from builder.running.failures import StepError
from builder.solving.executor import Executor, files_of
from builder.solving.layerwriter import LayerWriter
from containers.errors import MountError, UserError
from core.cancellation import asking, check
from core.digests import DiffID
from core.events import MissReason, Monitor, StepFinished, StepOutcome, StepStarted
from images.records import CacheRecord


class Solution(msgspec.Struct, frozen=True):
    """The target's filesystem for each platform, how many steps ran or came from the cache, and the layer of each.

    scanned: for each platform, the other filesystems that its SBOM describes.
    """

    rootfses: tuple[RootFS, ...]
    scanned: tuple[tuple[RootFS, ...], ...]
    executed: int
    cached: int
    layers: Mapping[int, DiffID]


# Errors that say something of the instruction: shown with its place. Others are the host's or the store's.
_OF_THE_INSTRUCTION = (BuilderError, MountError, UserError)


class Solver:
    """Solves one plan, once.

    no_cache: whether a step runs whatever the cache holds.
    unknown_owner: called with each owner's name that the image does not have; may raise a BuilderError.
    """

    def __init__(
        self,
        cache: BuildCache,
        executor: Executor,
        monitor: Monitor,
        explainer: Explainer,
        *,
        classes: StepClasses,
        no_cache: Callable[[Vertex], bool],
        unknown_owner: Callable[[Vertex, UnknownName], None],
        cancelled: threading.Event,
    ) -> None:
        self._cache = cache
        self._classes = classes
        self._executor = executor
        self._monitor = monitor
        self._explainer = explainer
        self._no_cache = no_cache
        self._unknown_owner = unknown_owner
        self._cancelled = cancelled
        self._results: dict[Vertex, Promise[RootFS]] = {}
        self._target: Vertex | None = None  # the last vertex, if there is one last
        self._counts = {"done": 0, "cached": 0}
        self._lock = threading.Lock()
        self._executed: dict[Vertex, tuple[MissReason, ...]] = {}
        self._runs_expected = False
        self._below_runs: set[Vertex] = set()
        self._first_error: BaseException | None = None
        self._failed = threading.Event()

    def solve(self, plan: Plan) -> Solution:
        """Run what the target needs. Raises the first error; then every other step has been stopped and has ended."""
        while True:
            try:
                return self._attempt(plan)
            except LayerLostError:
                # A layer that a cache elsewhere named cannot be fetched. That cache will not name it again, and the
                # steps that ran are in the store: ask everything again.
                self._cache.start_again()
                self._counts = {"done": 0, "cached": 0}
                self._first_error = None
                self._failed.clear()

    def _attempt(self, plan: Plan) -> Solution:
        self._results = {vertex: Promise() for vertex in plan.vertices()}
        wanted = {vertex for image in plan.images for vertex in (image.result, *(each for _, each in image.scanned))}
        self._target = wanted.pop() if len(wanted) == 1 else None
        self._runs_expected = any(isinstance(vertex.op, RunOp) for vertex in plan.vertices())
        self._below_runs = {vertex for chain in plan.chains for vertex in _before_the_last_run(chain)}
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
        results = [image.result for image in plan.images]
        rootfses = tuple(self._results[result].wait() if result is not None else RootFS() for result in results)
        scanned = tuple(tuple(self._results[vertex].wait() for _, vertex in image.scanned) for image in plan.images)
        for rootfs in itertools.chain(rootfses, *scanned):
            self._cache.provide(rootfs.diff_ids())
        layers = {
            vertex.step.id: result.wait().layers[-1].written.wait().diff_id
            for vertex, result in self._results.items()
            if not isinstance(vertex.op, BaseOp)
        }
        return Solution(rootfses, scanned, self._counts["done"], self._counts["cached"], layers)

    @property
    def stopped(self) -> bool:
        """Whether steps ought to end: the user cancelled, or another step failed."""
        return self._cancelled.is_set() or self._failed.is_set()

    def _run_chain(self, chain: Chain) -> None:
        # A step's result is written even when another step has failed, so that the cache has it.
        writer = LayerWriter(f"layers of {chain.name}", self._fail, stop_when(self._cancelled.is_set))
        try:
            with asking(stop_when(lambda: self.stopped)):
                self._solve_chain(chain, writer)
        except BaseException as error:
            self._fail(error)
            for vertex in chain.vertices:
                if self._results[vertex].pending:
                    self._results[vertex].fail(error)
        finally:
            writer.finish()

    def _solve_chain(self, chain: Chain, writer: LayerWriter) -> None:
        for vertex in chain.vertices:
            check()
            self._results[vertex].resolve(self._solve_vertex(vertex, writer))

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
            self._classes.bring_base(vertex, vertex.op)
            self._finish(vertex, "done", start)
            return RootFS(tuple(LayerHandle.known(diff_id) for diff_id in vertex.op.diff_ids))
        try:
            if isinstance(vertex.op, CopyOp):
                with self._executor.copy_job(vertex, vertex.op, sources) as job:
                    layer, outcome = self._solve_copy(vertex, vertex.op, job, parent, sources, writer)
            elif isinstance(vertex.op, (HttpOp, GitOp)):
                fetched = self._executor.fetch(vertex, vertex.op, lambda: self.stopped)
                self._classes.bring(vertex, fetched.privacy)
                self._finish(vertex, "cached" if fetched.cached else "done", start)
                return RootFS((LayerHandle.known(fetched.diff_id, fetched.created_at),))
            else:
                layer, outcome = self._solve_plain(vertex, vertex.op, parent, sources, writer)
            if may_name_owner(vertex.op):
                for unknown in self._explainer.unknown_names(outcome):
                    self._unknown_owner(vertex, unknown)
        except LayerLostError:
            raise
        except BuildCancelledError:
            self._finish(vertex, "cancelled", start)
            raise
        except BaseException as error:
            self._finish(vertex, "failed", start, str(error))
            if isinstance(error, _OF_THE_INSTRUCTION) and not isinstance(error, (StepError, ContextDamagedError)):
                word = error.word if isinstance(error, CopyError) else ""
                raise StepError(
                    error.message, step=vertex.step, lines=vertex.lines, hint=error.hint, word=word
                ) from error
            raise
        self._count(vertex, outcome, start)
        return parent.with_layer(layer)

    def _solve_plain(
        self,
        vertex: Vertex,
        op: RunOp | WorkdirOp,
        parent: RootFS,
        sources: tuple[RootFS, ...],
        writer: LayerWriter,
    ) -> tuple[LayerHandle, StepAnswer]:
        """RUN and WORKDIR."""
        step = self._classes.of(vertex, op)
        outcome = self._not_asked(vertex, op, step)
        if self._is_worth_asking(outcome, parent, step):
            outcome, record = self._ran_before(op, outcome.op, parent, sources, step)
            if record is not None:
                self._explainer.note(vertex, outcome)
                return _from_record(record), outcome
        self._expect_runs()
        start = time.monotonic()
        if isinstance(op, WorkdirOp):
            diff_id, unknown_names = self._executor.make_workdir(op, parent)
            made = WrittenLayer(diff_id, time.time())
            duration_s = time.monotonic() - start
            outcome = replace(outcome, unknown_names=unknown_names)
            self._explainer.note(vertex, replace(outcome, layer=made.diff_id))

            def remember() -> None:
                self._record(vertex, self._keyed(op, outcome, parent, sources), made, duration_s, step)

            writer.add(remember, _nobody_waits)
            return LayerHandle.known(made.diff_id, made.created_at), outcome
        upper = self._executor.run(vertex, op, parent, sources, lambda: self.stopped)
        ended, duration_s = time.time(), time.monotonic() - start
        layer = LayerHandle(directory=files_of(upper))

        def write() -> None:
            last = not sources and self._is_last(vertex)
            written = WrittenLayer(self._executor.write_upper(vertex, upper, parent, last=last), ended)
            self._record(vertex, self._keyed(op, outcome, parent, sources), written, duration_s, step)
            layer.written.resolve(written)

        writer.add(write, layer.written.fail)
        return layer, outcome

    def _is_last(self, vertex: Vertex) -> bool:
        """Whether only this step's layer is left: everything else is done and written."""
        if vertex is not self._target or self.stopped:
            return False
        others = (result for other, result in self._results.items() if other is not vertex)
        return not any(
            result.pending or any(layer.written.pending for layer in result.wait().layers[-1:]) for result in others
        )

    def _ran_before(
        self, op: RunOp | WorkdirOp, digest: str, parent: RootFS, sources: tuple[RootFS, ...], step: StepClass
    ) -> tuple[StepAnswer, CacheRecord | None]:
        below, content = parent.identity(), ""
        keys: list[str] = []
        for content in self._contents(op, sources):
            keys.append(cache_key(digest, below, content))
            record = self._cache.get(keys[-1], step)
            if record is not None:
                self._cache.put_as(keys[:-1], record, step)
                return _answered(record, below, keys, step), record
        return StepAnswer(
            digest, ran=True, below=below, content=content, keys=tuple(keys), facts=step.facts, asks=step.asks
        ), None

    def _keyed(
        self, op: RunOp | WorkdirOp, outcome: StepAnswer, parent: RootFS, sources: tuple[RootFS, ...]
    ) -> StepAnswer:
        """The outcome with its keys, once the layers below have been written."""
        if outcome.keys:
            return outcome
        below, contents = parent.identity(), list(self._contents(op, sources))
        keys = tuple(cache_key(outcome.op, below, content) for content in contents)
        return replace(outcome, below=below, content=contents[-1], keys=keys)

    def _contents(self, op: RunOp | WorkdirOp, sources: tuple[RootFS, ...]) -> Iterator[str]:
        """Identifies what a step reads of other filesystems, for the result's keys; the cheapest answer comes first."""
        if not sources or not isinstance(op, RunOp):
            yield ""
        else:
            yield from self._executor.mounted_contents(op, sources)

    def _expect_runs(self) -> None:
        """A step is not in the cache, so later RUNs will probably run: start the launcher while this step works."""
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
    ) -> tuple[LayerHandle, StepAnswer]:
        """COPY and ADD: as ``_solve_plain``, with the content of the files in the key."""
        step = self._classes.of(vertex, op)
        outcome = self._not_asked(vertex, op, step)
        worth_asking = self._is_worth_asking(outcome, parent, step)
        if worth_asking and not op.is_of_contexts:
            # Of a context's files most hashes are known. A stage's are hashed while they are copied, if nobody asks.
            worth_asking = self._cache.has_op(outcome.op, step)
        if worth_asking:
            below = _chain(op, parent)
            record, keys = self._copied_before(outcome.op, job, below, _whole(op, sources), step)
            if record is not None:
                outcome = _answered(record, below, keys, step)
                self._explainer.note(vertex, outcome)
                return _from_record(record), outcome
        self._expect_runs()
        start = time.monotonic()
        diff_id, unknown_names = self._executor.copy(job, op, parent)
        written = WrittenLayer(diff_id, time.time())
        if vertex in self._below_runs:
            self._executor.expect_use(written.diff_id)
        content = job.digest()  # after writing, when every file has been hashed on its way into the layer
        duration_s = time.monotonic() - start
        outcome = replace(
            outcome,
            content=content,
            listings=tuple(job.listings()),
            layer=written.diff_id,
            unknown_names=unknown_names,
        )

        def keyed() -> StepAnswer:
            below = _chain(op, parent)
            contents = (content, *_whole(op, sources))
            return replace(outcome, below=below, keys=tuple(cache_key(outcome.op, below, each) for each in contents))

        if worth_asking:  # everything that the keys need is then known
            outcome = keyed()
        self._explainer.note(vertex, outcome)
        writer.add(lambda: self._record(vertex, keyed(), written, duration_s, step), _nobody_waits)
        return LayerHandle.known(written.diff_id, written.created_at), outcome

    def _copied_before(
        self, digest: str, job: CopyJob, chain: str, whole: list[str], step: StepClass
    ) -> tuple[CacheRecord | None, list[str]]:
        known = [cache_key(digest, chain, content) for content in whole]
        for key in known:
            # The sources' filesystems are as they were: their files need not be read.
            if (record := self._cache.get(key, step)) is not None:
                return record, known
        key = cache_key(digest, chain, job.digest())
        record = self._cache.get(key, step)
        if record is not None:
            self._cache.put_as(known, record, step)
        return record, [key, *known]

    def _not_asked(self, vertex: Vertex, op: LayerOp, step: StepClass) -> StepAnswer:
        forced = self._no_cache(vertex) and vertex not in self._executed
        return StepAnswer(op_digest(op, step.facts), ran=True, forced=forced, facts=step.facts, asks=step.asks)

    def _is_worth_asking(self, outcome: StepAnswer, parent: RootFS, step: StepClass) -> bool:
        # An operation without any record cannot hit: no need to wait until the layer below has been written.
        return not outcome.forced and (not parent.pending or self._cache.has_op(outcome.op, step))

    def _record(
        self, vertex: Vertex, outcome: StepAnswer, written: WrittenLayer, duration_s: float, step: StepClass
    ) -> None:
        outcome = replace(outcome, layer=written.diff_id)
        self._explainer.note(vertex, outcome)
        detail = self._explainer.detail(vertex, outcome)
        record = CacheRecord("", outcome.op, written.diff_id, written.created_at, duration_s, vertex.step.name, detail)
        for key in outcome.keys:
            self._cache.put(key, record, step)
        self._explainer.remember_files(outcome)

    # What the user sees

    def _count(self, vertex: Vertex, outcome: StepAnswer, start: float) -> None:
        with self._lock:
            ran_now = outcome.ran
            ran = ran_now or vertex in self._executed  # an earlier attempt may have run it
            self._counts["done" if ran else "cached"] += 1
        if ran_now:
            self._executed[vertex] = self._explainer.changes(vertex, outcome)
        changes = self._executed.get(vertex, ())
        self._finish(vertex, "done" if ran else "cached", start, changes=changes)

    def _finish(
        self,
        vertex: Vertex,
        outcome: StepOutcome,
        start: float,
        reason: str | None = None,
        changes: tuple[MissReason, ...] = (),
    ) -> None:
        if changes:
            from builder.explaining.words import in_words

            reason = in_words(changes)
        self._monitor.emit(
            StepFinished(vertex.step.id, outcome, time.monotonic() - start, time.time(), reason or None, changes)
        )


def _answered(record: CacheRecord, below: str, keys: Sequence[str], step: StepClass) -> StepAnswer:
    """The answer that a cache hit gives."""
    layer, known = record.diff_id or "", tuple(keys)
    return StepAnswer(
        record.op, ran=False, below=below, keys=known, layer=layer, record=record.detail, facts=step.facts
    )


def _from_record(record: CacheRecord) -> LayerHandle:
    assert record.diff_id is not None  # every step leaves a layer, maybe an empty one
    return LayerHandle.known(record.diff_id, record.created_at)


def _before_the_last_run(chain: Chain) -> Sequence[Vertex]:
    runs = [number for number, vertex in enumerate(chain.vertices) if isinstance(vertex.op, RunOp)]
    return chain.vertices[: runs[-1]] if runs else ()


def _chain(op: CopyOp, parent: RootFS) -> str:
    """What a copy's result depends on, other than the files: the filesystem below, if the copy looks at it."""
    from builder.copying.planner import needs_rootfs

    return parent.identity() if needs_rootfs(op.spec) else ""


def _nobody_waits(error: BaseException) -> None:
    """Ignore the error: the writer itself reports a record that could not be written. No step depends on it."""


def _whole(op: CopyOp, sources: tuple[RootFS, ...]) -> list[str]:
    """Stand-ins for the content of all files of the sources, so that none is read; nothing for a context."""
    if any(part.source is None for part in op.parts):
        return []
    return [" ".join(f"all of {source.identity()}" for source in sources)]
