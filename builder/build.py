"""One build, from request to image: parse, plan, solve, put together, put out."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.assembly import BuiltImage, image_config
from builder.bases import Connect, Resolver
from builder.cacheio.classes import StepClasses
from builder.cacheio.session import CacheSession
from builder.copying.contextfiles import ContextFiles
from builder.errors import stop_when
from builder.explaining.why import Explainer
from builder.exporting.exporter import Exported, Exporter
from builder.exporting.push import Push
from builder.frontend.checks import check_options, check_platforms, check_remembered, refuse_violations
from builder.frontend.epoch import dated
from builder.frontend.parsing import parse_remembered
from builder.frontend.stages import plan
from builder.graph.rootfs import RootFS
from builder.graph.vertices import BaseOp, CopyOp, FetchOp, Plan, PlannedImage, Vertex
from builder.recall import may_be_recalled, remember
from builder.request.arguments import MULTI_PLATFORM_ARG
from builder.request.request import BuildRequest, Output
from builder.result import BuildResult
from builder.running.failures import StepError
from builder.solving.executor import Executor
from builder.solving.solver import Solution, Solver
from containers.launcher import Launcher
from core.cancellation import asking
from core.errors import ShiplapError
from core.events import BuildPlanned, Monitor, NullMonitor, StepFinished, StepInfo, StepStarted, Warned
from core.gobool import parse_bool
from core.settings import CacheMax
from dockerfile_grammar import Dockerfile
from images.store import Store

if TYPE_CHECKING:  # a build without attestations does not pay for them
    from builder.attesting.attestor import Attestor, RecordingResolver
    from builder.cacheio.places import CacheDirectories
    from builder.copying.owners import UnknownName


class BuildTools(NamedTuple):
    """What a build works with, whatever it builds.

    store: has the images, the layers and the cache.
    launcher: starts the containers of RUN.
    monitor: receives the build's events.
    cancelled: ends the build once it is set; None: nothing ends it.
    connect: opens a registry client, for images that are not in the store; None: nothing is pulled.
    cache_max: the size that the cache is pruned to afterwards, if the build added to it; None: it is not pruned.
    solved: called, maybe twice, when the launcher is not needed any more. The last layer may still have to be written
    then, and the result to be put out.
    files: the files of the request's contexts, some of them perhaps read by ``recall``; None: none is read yet.
    cache_directories: what caches of ``type=local`` name; None: directories of this host.
    """

    store: Store
    launcher: Launcher
    monitor: Monitor = NullMonitor()
    cancelled: threading.Event | None = None
    connect: Connect | None = None
    cache_max: CacheMax | None = None
    solved: Callable[[], None] | None = None
    files: ContextFiles | None = None
    cache_directories: CacheDirectories | None = None


def build(request: BuildRequest, tools: BuildTools) -> BuildResult:
    """Build and put out what is asked for.

    Raises DockerfileError (with the place), StepError, BuildCancelledError once ``cancelled`` of the tools is set, and
    other ShiplapErrors. Whatever is raised, every container has ended. The steps that succeeded are in the cache,
    except those whose layers were still being written when the build was cancelled.
    """
    cancelled = tools.cancelled or threading.Event()
    with contextlib.ExitStack() as stack, asking(stop_when(cancelled.is_set)):
        result = _Build(request, tools, cancelled, stack).run()
    if tools.cache_max is not None and result.executed:
        tools.store.cache_use.keep_below(tools.cache_max)
    return result


class _Build:
    """One build under way. stack: closes what it opens."""

    def __init__(
        self, request: BuildRequest, tools: BuildTools, cancelled: threading.Event, stack: contextlib.ExitStack
    ) -> None:
        self._began = time.time()
        self._id = os.urandom(13).hex()
        self._files = tools.files or ContextFiles(request, tools.store)
        self._dockerfile = parse_remembered(request.dockerfile, request.dockerfile_name, tools.store)
        self._request = request = dated(request, self._dockerfile)
        self._tools = tools
        self._store = store = tools.store
        self._monitor = monitor = tools.monitor
        self._cancelled = cancelled
        self._warnings: list[Warned] = []
        self._stack = stack
        self._resolver = stack.enter_context(
            Resolver(store, monitor, request.platform, tools.connect, always=request.pull)
        )
        self._recorder = _recorder(request, store, self._resolver)

    def run(self) -> BuildResult:
        tools = self._tools
        planned = plan(self._dockerfile, self._request, self._recorder or self._resolver)
        self._warn(planned.unused_args)
        last_step = StepInfo(len(planned.plan.steps), "exporting to image")
        self._monitor.emit(BuildPlanned((*planned.plan.steps, last_step)))
        numbers = itertools.count(last_step.id + 1)

        def new_step(name: str) -> StepInfo:
            return StepInfo(next(numbers), name)

        self._resolver.fetches_layers(new_step)
        caching = self._stack.enter_context(
            CacheSession(
                self._request,
                self._store,
                self._monitor,
                tools.connect,
                new_step=new_step,
                cancelled=self._cancelled,
                directories=tools.cache_directories,
            )
        )
        solved = tools.solved if self._recorder is None else None  # attestations read the image's files
        executor = Executor(
            self._store, tools.launcher, self._monitor, self._request, self._files, caching.cache.provide, solved
        )
        solution = self._solve(planned.plan, caching, executor)
        if solved is not None:
            solved()
        epoch = self._request.source_date_epoch
        images = [
            _assembled(image, rootfs, scanned, epoch, caching)
            for image, rootfs, scanned in zip(planned.plan.images, solution.rootfses, solution.scanned, strict=True)
        ]
        attest = None if self._recorder is None else self._attestor(self._recorder, planned.plan, executor)
        push = Push(self._store, tools.connect, self._monitor, last_step.id)
        several = bool(parse_bool(self._request.build_args.get(MULTI_PLATFORM_ARG, "")))
        exporter = Exporter(self._store, images, epoch=epoch, attest=attest, push=push, several=several)
        exported = _put_out(exporter, self._request.outputs, self._monitor, last_step)
        caching.export([diff_id for image in images for diff_id in image.diff_ids])
        if may_be_recalled(self._request):
            self._remember(planned.plan, last_step, caching, exported)
        return BuildResult(
            id=self._id,
            image=exported.image,
            config_digest=exported.image_id,
            root=exported.root,
            is_index=exported.is_index,
            names=exported.names,
            executed=solution.executed,
            cached=solution.cached,
            layers=solution.layers,
            cache=caching.cache,
            new_step=new_step,
        )

    def _warn(self, unused_args: Sequence[str]) -> None:
        """Warn of unused arguments and stages, and of the checks' findings. Raises where findings are to be errors."""
        request, dockerfile = self._request, self._dockerfile

        emit = self._emit_warning
        for name in unused_args:
            emit(Warned(f"build argument {name} was not used: no ARG {name} in the stages built"))
        findings = [
            *check_platforms(dockerfile, request, self._resolver.mismatches),
            *check_remembered(dockerfile, request, self._resolver.environments(), self._store),
        ]
        refuse_violations(check_options(dockerfile, request.build_args), findings)
        for finding in findings:
            emit(Warned(finding.detail, finding.line, finding.rule))
        for name in _unknown_stages(dockerfile, request):
            emit(Warned(f"--no-cache-filter {name}: no stage has this name"))

    def _emit_warning(self, warning: Warned) -> None:
        self._warnings.append(warning)
        self._monitor.emit(warning)

    def _tell_unknown_owner(self, vertex: Vertex, unknown: UnknownName) -> None:
        """Warn of an owner that the image lacks, unless that check is skipped. Raises CheckError if it is an error."""
        from builder.frontend.unknownowners import OWNER_RULE, finding_of, naming_line
        from dockerfile_grammar.checks import skipping

        options = check_options(self._dockerfile, self._request.build_args)
        finding = finding_of(unknown, naming_line(self._dockerfile, unknown, vertex.lines.first))
        if not skipping(self._dockerfile, options)(OWNER_RULE.name, finding.line):
            refuse_violations(options, [finding])
            self._emit_warning(Warned(finding.detail, finding.line, finding.rule))

    def _solve(self, plan: Plan, caching: CacheSession, executor: Executor) -> Solution:
        explainer = Explainer(self._store, self._request.lineage_name, plan, self._request.domain)
        solver = Solver(
            caching.cache,
            executor,
            self._monitor,
            explainer,
            classes=StepClasses(self._request, self._resolver.privacy),
            no_cache=lambda vertex: _runs_anyway(vertex, self._request),
            unknown_owner=self._tell_unknown_owner,
            cancelled=self._cancelled,
        )
        try:
            solution = solver.solve(plan)
        except StepError as error:
            error.dockerfile = "\n".join(self._dockerfile.source.lines)
            error.dockerfile_name = self._request.dockerfile_name
            raise
        finally:
            self._files.save()
        explainer.finish()
        return solution

    def _remember(self, plan: Plan, last_step: StepInfo, caching: CacheSession, exported: Exported) -> None:
        """Keep the outcome for ``recall``, unless it depends on something that ``recall`` does not look at."""
        vertices = list(plan.vertices())
        copies = {}
        for vertex in vertices:
            op = vertex.op
            if isinstance(op, CopyOp) and any(part.source is None for part in op.parts):
                content = self._files.known_content(op.spec) if op.is_of_context else None
                if content is None:
                    return
                copies[op.spec] = content
            elif isinstance(op, FetchOp):
                return
        bases = self._resolver.found()
        steps = [(vertex.step, not isinstance(vertex.op, BaseOp)) for vertex in vertices]
        is_all = len(steps) == len(plan.steps)  # another was that of a pull, which there is only once
        if is_all and exported.root is not None:
            remember(
                self._request,
                self._store,
                bases=bases,
                copies=list(copies.items()),
                records=caching.cache.answers(),
                steps=[*steps, (last_step, False)],
                warnings=self._warnings,
                image=exported.image_id,
                manifest=(exported.root.digest, exported.root.size, exported.root.media_type),
            )

    def _attestor(self, recorder: RecordingResolver, plan: Plan, executor: Executor) -> Attestor:
        from builder.attesting.attestor import Attestor
        from builder.attesting.invocation import Invocation

        def invocation() -> Invocation:
            images = tuple(recorder.images.values())
            return Invocation(self._id, self._began, time.time(), self._request, plan, images, executor.pinned)

        return Attestor(self._store, self._monitor, self._request.attest, invocation)


def _assembled(
    planned: PlannedImage, rootfs: RootFS, scanned: Sequence[RootFS], epoch: int | None, caching: CacheSession
) -> BuiltImage:
    layers = [layer.written.wait() for layer in rootfs.layers]
    config = caching.marked(image_config(planned, layers, epoch=epoch))
    besides = tuple((name, files.diff_ids()) for (name, _), files in zip(planned.scanned, scanned, strict=True))
    return BuiltImage(planned.platform, config, planned.base_layers, besides)


def _recorder(request: BuildRequest, store: Store, resolver: Resolver) -> RecordingResolver | None:
    """The resolver that records the build's images, if attestations were asked for."""
    if not request.attest:
        return None
    from builder.attesting.attestor import RecordingResolver

    return RecordingResolver(store, resolver)


def _runs_anyway(vertex: Vertex, request: BuildRequest) -> bool:
    """Whether ``--no-cache`` or ``--no-cache-filter`` has the step run whatever the cache has."""
    return request.no_cache or vertex.step.stage.lower() in request.no_cache_stages


def _unknown_stages(dockerfile: Dockerfile, request: BuildRequest) -> list[str]:
    names = {stage.name or f"stage-{stage.index}" for stage in dockerfile.stages}
    return [name for name in request.no_cache_stages if name not in names]


def _put_out(exporter: Exporter, outputs: Sequence[Output], monitor: Monitor, step: StepInfo) -> Exported:
    """Put the outputs out, shown as the last step."""
    monitor.emit(StepStarted(step.id, time.time()))
    start = time.monotonic()
    try:
        exported = exporter.put_out(outputs)
    except ShiplapError as error:
        monitor.emit(StepFinished(step.id, "failed", time.monotonic() - start, time.time(), str(error)))
        raise
    monitor.emit(StepFinished(step.id, "done", time.monotonic() - start, time.time()))
    return exported
