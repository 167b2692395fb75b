"""One build, from request to image: parse, plan, solve, put together, put out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from containers.launcher import Launcher

from builder.assembly import image_config
from builder.execution import Executor
from builder.failures import StepFailedError
from builder.frontend import plan
from builder.request import BuildRequest
from builder.solver import Solver
from core.events import BuildPlanned, Monitor, NullMonitor, Warned
from dockerfile_grammar import parse
from images.errors import ImageNotFoundError
from images.images import Image
from images.store import Store


@dataclass(frozen=True, slots=True)
class BuildResult:
    """executed, cached: steps that ran, and steps that the cache answered; FROM counts as neither."""

    image: Image
    executed: int
    cached: int


def build(
    request: BuildRequest,
    *,
    store: Store,
    launcher: Launcher,
    monitor: Monitor | None = None,
    cancelled: threading.Event | None = None,
) -> BuildResult:
    """Build and put out what is asked for.

    Raises DockerfileError (with the place), StepFailedError, BuildCancelledError once ``cancelled`` is set, and other
    ShiplapErrors. Whatever is raised, every container has ended, and the steps that succeeded are in the cache.
    """
    monitor = monitor or NullMonitor()
    dockerfile = parse(request.dockerfile, request.dockerfile_name)
    planned = plan(dockerfile, request, _resolver(store))
    for name in planned.unused_args:
        monitor.emit(Warned(f"build argument {name} was not used: no ARG {name} in the stages built"))
    monitor.emit(BuildPlanned(planned.plan.steps))
    executor = Executor(store, launcher, monitor, request.context)
    solver = Solver(store, executor, monitor, no_cache=request.no_cache, cancelled=cancelled or threading.Event())
    try:
        solution = solver.solve(planned.plan)
    except StepFailedError as error:
        error.dockerfile = "\n".join(dockerfile.source.lines)
        error.dockerfile_name = request.dockerfile_name
        raise
    finally:
        executor.save_stat_cache()
    layers = [layer.written.wait() for layer in solution.rootfs.layers]
    config = image_config(planned.plan.image, layers, epoch=request.source_date_epoch)
    return BuildResult(
        store.images.put(config, [layer.diff_id for layer in layers]), solution.executed, solution.cached
    )


def _resolver(store: Store) -> Callable[[str], Image]:
    def resolve(name: str) -> Image:
        try:
            return store.images.resolve(name)
        except ImageNotFoundError as error:
            hint = error.hint or "bring it in with `shiplap image load` or `shiplap image import`"
            raise ImageNotFoundError(error.message, hint=hint) from None

    return resolve
