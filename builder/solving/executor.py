"""Executes steps that the cache cannot answer: runs commands, copies files, makes directories. Each leaves a layer."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from builder.copying.contextfiles import ContextFiles
from builder.copying.job import CopyFrom, CopyJob
from builder.graph.rootfs import RootFS
from builder.graph.vertices import CopyOp, CopyPart, FetchOp, RunOp, Vertex, WorkdirOp
from builder.request.request import BuildRequest
from containers.errors import ContainerError
from containers.launcher import Launcher
from core.digests import DiffID
from core.events import Monitor, StepProgress, Warned
from images.store import Store

if TYPE_CHECKING:
    from builder.contexts.filetree import SourceTree
    from builder.copying.owners import UnknownName
    from builder.copying.planner import Written
    from builder.running.mounts import Mounter
    from builder.solving.fetching import FetchedLayer
    from containers.spec import Mount
    from core.rootfs import RootLayer
    from images.snapshots import Upper
    from images.tarwriter import TarWriter

_T = TypeVar("_T")


class Executor:
    """Does the work of steps; any number of threads may use it at once.

    Layers are written without waiting for the disk (``sync=False``): they are made durable together, when the image
    is put into the store. Until then they live exactly as long as the machine's power does.

    files: of the build's contexts.
    pinned: what has been fetched, with the checksum or commit hash that identifies it for good.
    provide: brings known layers into the store that are not there yet; see ``BuildCache.provide``.
    idle: called when the launcher is not needed any more, if that is known before the last layer is written.
    """

    def __init__(
        self,
        store: Store,
        launcher: Launcher,
        monitor: Monitor,
        request: BuildRequest,
        files: ContextFiles,
        provide: Callable[[Iterable[DiffID]], None] | None = None,
        idle: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._launcher = launcher
        self._monitor = monitor
        self._request = request
        self._files = files
        self._provide = provide
        self._idle = idle
        self.pinned: dict[FetchOp, str] = {}

    # COPY and ADD

    def copy_job(self, vertex: Vertex, op: CopyOp, sources: Sequence[RootFS]) -> CopyJob:
        """The files that a COPY or ADD takes, from ``sources`` and from build contexts."""
        if op.is_of_context:
            return self._files.job(op.spec)
        return CopyJob(*(self._copy_from(vertex, part, sources) for part in op.parts))

    def _copy_from(self, vertex: Vertex, part: CopyPart, sources: Sequence[RootFS]) -> CopyFrom:
        if part.source is None:
            return self._files.part(part.spec, part.context)
        source, label = sources[part.source], vertex.sources[part.source].step.name

        def open_tree(stack: contextlib.ExitStack) -> SourceTree:
            from builder.copying.stagetree import StageTree

            return StageTree(stack.enter_context(self._view(source)), label, self._lowers(source), stack)

        return CopyFrom(part.spec, open_tree)

    def fetch(self, vertex: Vertex, op: FetchOp, stopped: Callable[[], bool]) -> FetchedLayer:
        """The layer with what a URL or a git repository has now."""
        from builder.solving.fetching import Fetcher

        def progress(current: int, total: int) -> None:
            self._monitor.emit(StepProgress(vertex.step.id, "fetching", current, total))

        layer = Fetcher(self._store, self._request, stopped).layer(op, progress)
        self.pinned[op] = layer.pinned
        return layer

    def copy(self, job: CopyJob, op: CopyOp, parent: RootFS) -> tuple[DiffID, tuple[UnknownName, ...]]:
        """Write the layer of a COPY or ADD. Also returns the names of owners that the image does not have."""
        from builder.copying.planner import needs_rootfs
        from images.errors import DamagedBlobError

        def write(writer: TarWriter) -> Written:
            return job.write(below, writer, created_at=int(time.time()), timestamp=op.timestamp)

        with self._view_or_none(parent if needs_rootfs(op.spec) else RootFS()) as below:
            same = job.same_layer(below, created_at=int(time.time()), timestamp=op.timestamp)
            if same is not None and self._store.layers.has(same[0]):
                return same
            try:
                diff_id, written = self._write_layer(write)
            except DamagedBlobError as error:
                self._monitor.emit(Warned(f"{error.message}; {op.spec.verb} reads all of its files again"))
                diff_id, written = self._write_layer(write)
        self._note(diff_id, written)
        job.written(diff_id, written.places)
        return diff_id, written.unknown_names

    # WORKDIR

    def make_workdir(self, op: WorkdirOp, parent: RootFS) -> tuple[DiffID, tuple[UnknownName, ...]]:
        """Write the layer with the missing directories, empty when none is missing. Returns the same as ``copy``."""
        from builder.copying.owners import Owner, parse_chown
        from builder.copying.planner import workdir_layer

        with self._view_or_none(parent) as below:
            owner = parse_chown(op.user, below, written="USER ") or Owner(0, 0)
            made_at = int(time.time()) if op.timestamp is None else op.timestamp
            diff_id, written = self._write_layer(
                lambda writer: workdir_layer(op.path, owner.uid, owner.gid, below, writer, created_at=made_at)
            )
        self._note(diff_id, written)
        return diff_id, owner.unknown

    # RUN

    def expect_runs(self) -> None:
        """Start the launcher and its network behind the caller's back; a failure shows when a step needs them."""
        with contextlib.suppress(ContainerError):
            self._launcher.warm()

    def expect_use(self, diff_id: DiffID) -> None:
        """A RUN is going to need this new layer: prepare its mounting behind the caller's back."""
        self._store.snapshots.begin(diff_id)

    def mounted_contents(self, op: RunOp, sources: Sequence[RootFS]) -> Iterator[str]:
        """Identifies everything that a RUN's mounts show of other filesystems; see ``Mounter.contents``."""
        return self._mounter().contents(op, sources)

    def run(
        self, vertex: Vertex, op: RunOp, parent: RootFS, sources: Sequence[RootFS], stopped: Callable[[], bool]
    ) -> Upper:
        """Run the command on the parent's filesystem. Returns the upper directory with its changes."""
        with contextlib.ExitStack() as held:
            mounts: Sequence[Mount] = ()
            secret_env: Sequence[tuple[str, str]] = ()
            if op.mounts:
                mounted = held.enter_context(self._mounter().mounted(op, sources, stopped))
                mounts, secret_env = mounted.mounts, mounted.secret_env
            return self._run(vertex, op, parent, stopped, mounts, secret_env, held)

    def _mounter(self) -> Mounter:
        from builder.running.mounts import Mounter

        return Mounter(self._store, self._request, self._view)

    def _masked(self) -> tuple[bytes, ...]:
        if not self._request.secrets:
            return ()
        from builder.running.masking import secret_forms

        return secret_forms(self._request.secrets.values())

    def _run(
        self,
        vertex: Vertex,
        op: RunOp,
        parent: RootFS,
        stopped: Callable[[], bool],
        mounts: Sequence[Mount],
        secret_env: Sequence[tuple[str, str]],
        held: contextlib.ExitStack,
    ) -> Upper:
        """Run the command. held: what the mounts need; kept with the upper when the step fails and is to be held."""
        from builder.running.failures import HeldStep, StepFailedError
        from builder.running.step import StepRun, run_step
        from core.rootfs import DirectoryLayer

        layers, masked, limits = self._lowers(parent), self._masked(), self._request.limits
        upper = self._store.snapshots.new_upper(layers)
        run = StepRun(vertex, op, layers, upper.path, mounts, secret_env, masked, limits)
        try:
            run_step(run, self._launcher, self._monitor, stopped)
        except StepFailedError as error:
            if not self._request.hold_failures:
                self._store.snapshots.discard(upper)
                raise
            seen = (*layers, DirectoryLayer(files_of(upper)))
            above = self._store.snapshots.new_upper(seen)
            for left in (upper, above):
                held.callback(self._store.snapshots.discard, left)
            spec = run._replace(layers=seen, upper=above.path).spec()
            error.held = HeldStep(spec, held.pop_all(), op, parent, limits)
            raise
        except BaseException:
            self._store.snapshots.discard(upper)
            raise
        return upper

    def write_upper(self, vertex: Vertex, upper: Upper, parent: RootFS, *, last: bool = False) -> DiffID:
        """Write a RUN's changes as its layer; the directory becomes the layer's snapshot.

        last: no other step follows, so the launcher can end while the layer is written.
        """
        from images.diff import write_upper

        left_out: list[bytes] = []
        with contextlib.ExitStack() as held:

            def below() -> int | None:
                view = held.enter_context(self._view_or_none(parent))
                if last and self._idle is not None:
                    self._idle()
                return view

            def write(writer: TarWriter) -> None:
                left_out.extend(write_upper(files_of(upper), below, writer, root=upper.root).unrepresentable)

            diff_id, _ = self._write_layer(write, cached=self._request.reads_layers)
        self._store.snapshots.adopt(upper, diff_id, parent.diff_ids())
        for path in left_out:
            shown = path.decode(errors="backslashreplace")
            message = f"/{shown} is not in the image: names that begin with .wh. mean deletions in a layer"
            self._monitor.emit(Warned(message, vertex.lines.first))
        return diff_id

    # Helpers

    def _write_layer(self, write: Callable[[TarWriter], _T], *, cached: bool = True) -> tuple[DiffID, _T]:
        from images.behind import Behind
        from images.tarwriter import TarWriter

        with self._store.layers.writer(sync=False, cached=cached) as blob:
            with Behind(blob) as sink:
                writer = TarWriter(sink)
                result = write(writer)
                writer.close()
            return blob.commit(), result

    def _note(self, diff_id: DiffID, written: Written) -> None:
        if written.survey is not None:
            self._store.snapshots.note_survey(diff_id, written.survey)

    def _lowers(self, rootfs: RootFS) -> tuple[RootLayer, ...]:
        """What to mount, base first, with every layer in the store."""
        if self._provide is not None:
            self._provide(layer.written.wait().diff_id for layer in rootfs.layers if layer.directory is None)
        return rootfs.lowers(self._store.snapshots)

    @contextlib.contextmanager
    def _view(self, rootfs: RootFS) -> Iterator[int]:
        fd = self._launcher.view(self._lowers(rootfs))
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _view_or_none(self, rootfs: RootFS) -> Iterator[int | None]:
        if not rootfs.layers:
            yield None
            return
        with self._view(rootfs) as fd:
            yield fd


def files_of(upper: Upper) -> str:
    """The directory with what the step wrote."""
    return f"{upper.path}/fs"
