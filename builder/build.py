"""One build, from request to image: parse, plan, solve, put together, put out."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Sequence

import msgspec

from builder.assembly import image_config
from builder.cacheio.session import CacheSession
from builder.execution import Executor
from builder.explaining.why import Explainer
from builder.exporting import export
from builder.failures import StepError
from builder.frontend import plan
from builder.graph import Vertex
from builder.parsing import parse_remembered
from builder.request import BuildRequest, Output
from builder.resolving import Connect, Resolver
from builder.solver import Solver
from containers.launcher import Launcher
from core.digests import DiffID, Digest
from core.errors import ShiplapError
from core.events import BuildPlanned, Monitor, NullMonitor, StepFinished, StepInfo, StepStarted, Warned
from images.errors import ImageNotFoundError
from images.images import Image
from images.oci import ImageConfig, encode
from images.store import Store


class BuildResult(msgspec.Struct, frozen=True):
    """What was built.

    image: None when no output puts it into the store. executed, cached: steps that ran, and steps that the cache
    answered; FROM counts as neither.
    """

    image: Image | None
    config_digest: Digest
    manifest_digest: Digest
    executed: int
    cached: int


def build(
    request: BuildRequest,
    *,
    store: Store,
    launcher: Launcher,
    monitor: Monitor | None = None,
    cancelled: threading.Event | None = None,
    connect: Connect | None = None,
) -> BuildResult:
    """Build and put out what is asked for.

    connect: opens a client of registries, for images that are not in the store; None: nothing is pulled.

    Raises DockerfileError (with the place), StepError, BuildCancelledError once ``cancelled`` is set, and other
    ShiplapErrors. Whatever is raised, every container has ended, and the steps that succeeded are in the cache.
    """
    monitor = monitor or NullMonitor()
    dockerfile = parse_remembered(request.dockerfile, request.dockerfile_name, store)
    with contextlib.ExitStack() as stack:
        resolver = stack.enter_context(Resolver(store, monitor, request.platform, connect, always=request.pull))
        planned = plan(dockerfile, request, resolver)
        for name in planned.unused_args:
            monitor.emit(Warned(f"build argument {name} was not used: no ARG {name} in the stages built"))
        last_step = StepInfo(len(planned.plan.steps), "exporting to image")
        monitor.emit(BuildPlanned((*planned.plan.steps, last_step)))
        cancelled = cancelled or threading.Event()
        numbers = itertools.count(last_step.id + 1)

        def new_step(name: str) -> StepInfo:
            return StepInfo(next(numbers), name)

        resolver.fetches_layers(new_step)
        caching = stack.enter_context(
            CacheSession(request, store, monitor, connect, new_step=new_step, cancelled=cancelled)
        )
        executor = Executor(store, launcher, monitor, request, caching.cache.provide)
        explainer = Explainer(store, _lineage(request), planned.plan)
        solver = Solver(
            caching.cache,
            executor,
            monitor,
            explainer,
            no_cache=lambda vertex: _runs_anyway(vertex, request),
            cancelled=cancelled,
        )
        try:
            solution = solver.solve(planned.plan)
        except StepError as error:
            error.dockerfile = "\n".join(dockerfile.source.lines)
            error.dockerfile_name = request.dockerfile_name
            raise
        finally:
            executor.save_stat_cache()
        explainer.finish()
        layers = [layer.written.wait() for layer in solution.rootfs.layers]
        diff_ids = [layer.diff_id for layer in layers]
        config = caching.marked(image_config(planned.plan.image, layers, epoch=request.source_date_epoch))
        image = _put_out(store, config, diff_ids, request.outputs, monitor, last_step)
        caching.export(diff_ids)
    kept = any(output.type == "image" for output in request.outputs)
    return BuildResult(
        store.images.get(image.id) if kept else None,
        image.id,
        image.manifest_digest,
        solution.executed,
        solution.cached,
    )


def _runs_anyway(vertex: Vertex, request: BuildRequest) -> bool:
    """Whether ``--no-cache`` or ``--no-cache-filter`` has the step run whatever the cache has."""
    return request.no_cache or vertex.step.stage.lower() in request.no_cache_stages


def _lineage(request: BuildRequest) -> str:
    """What builds of the same thing have in common; empty for a context that is never seen again."""
    name = request.lineage or request.context.key
    return f"{name}\0{request.dockerfile_name}\0{request.platform}" if name else ""


def _put_out(
    store: Store,
    config: ImageConfig,
    diff_ids: Sequence[DiffID],
    outputs: Sequence[Output],
    monitor: Monitor,
    step: StepInfo,
) -> Image:
    """The last step that is shown: the image into the store, and to each output."""
    monitor.emit(StepStarted(step.id, time.time()))
    start = time.monotonic()
    try:
        stays = any(output.type == "image" for output in outputs) or _is_known(store, config)
        names = [name for output in outputs if output.type == "image" for name in output.names]
        image = store.images.put(config, diff_ids, names=names)
        for output in outputs:
            if output.type != "image":
                export(store, image, output)
        if not stays:
            store.images.remove(image.id)  # it was wanted elsewhere only; its layers stay in the build cache
    except ShiplapError as error:
        monitor.emit(StepFinished(step.id, "failed", time.monotonic() - start, time.time(), str(error)))
        raise
    monitor.emit(StepFinished(step.id, "done", time.monotonic() - start, time.time()))
    return image


def _is_known(store: Store, config: ImageConfig) -> bool:
    try:
        store.images.get(Digest.of(encode(config)))
    except ImageNotFoundError:
        return False
    return True
