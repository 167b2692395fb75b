"""A RUN's container: its specification, its output to the monitor, its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from builder.errors import BuildCancelledError
from builder.graph.vertices import RunOp, Vertex
from builder.request.limits import StepLimits
from builder.running.container import Output, run_container
from builder.running.failures import StepFailedError
from builder.running.hints import hint_for
from builder.running.watch import Watch
from containers.capabilities import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from containers.launcher import Launcher
from containers.limits import MEMORY_ABOVE
from containers.spec import ContainerSpec, ExitStatus, File, Mount
from core.events import Monitor
from core.rootfs import RootLayer


class StepRun(NamedTuple):
    """A RUN that is about to run, and all that its container is made of.

    op: the vertex' operation.
    layers: base first.
    upper: an overlay upper as ``Snapshots.new_upper`` makes it; it holds the changes afterwards.
    mounts, secret_env: what ``op.mounts`` became.
    masked: what is not to be seen in the output.
    limits: over one of them the step fails, and its error says which.
    """

    vertex: Vertex
    op: RunOp
    layers: Sequence[RootLayer]
    upper: str
    mounts: Sequence[Mount] = ()
    secret_env: Sequence[tuple[str, str]] = ()
    masked: Sequence[bytes] = ()
    limits: StepLimits = StepLimits()

    def spec(self) -> ContainerSpec:
        """The container that runs it."""
        op, limits = self.op, self.limits
        return ContainerSpec(
            layers=tuple(self.layers),
            upper=self.upper,
            args=op.args,
            env=(*op.env, *op.untracked_env, *self.secret_env),
            cwd=op.cwd,
            hostname=op.hostname,
            user=op.user,
            network=op.network,
            capabilities=ALL_CAPABILITIES if op.insecure else DEFAULT_CAPABILITIES,
            filtered=not op.insecure,
            extra_hosts=op.extra_hosts,
            mounts=(*(File(file.path, file.content, file.mode) for file in op.files), *self.mounts),
            limits=limits.container,
            ulimits=limits.ulimits,
            shm_bytes=limits.shm_bytes,
        )


def run_step(run: StepRun, launcher: Launcher, monitor: Monitor, stopped: Callable[[], bool]) -> None:
    """Run the command to its end. Raises StepFailedError for a status other than 0, BuildCancelledError if stopped."""
    vertex, op, limits = run.vertex, run.op, run.limits
    output = Output(vertex.step.id, monitor, run.masked)
    watch = Watch(limits, run.upper, run.mounts)
    status, exceeded = run_container(run.spec(), launcher, output, watch, lambda _: stopped())
    if stopped():
        raise BuildCancelledError("cancelled")
    exceeded = exceeded or watch.disk_exceeded()
    if status.code != 0 or exceeded:
        raise StepFailedError(
            f"process {_shown(op)!r} was stopped: {exceeded}" if exceeded else why_it_failed(op, status, limits),
            step=vertex.step,
            lines=vertex.lines,
            exit_code=status.code,
            output_tail=output.tail(),
            is_over_limit=bool(exceeded or status.exceeded),
            hint=None if exceeded else hint_for(op, status, output.tail()),
        )


def _shown(op: RunOp) -> str:
    command = " ".join(op.args)
    return command if len(command) <= 200 else command[:200] + "…"


def why_it_failed(op: RunOp, status: ExitStatus, limits: StepLimits) -> str:
    """The error message for a step whose command failed."""
    shown = _shown(op)
    if status.message:
        return f"process {shown!r} could not be started: {status.message}"
    over = ""
    if "memory" in status.exceeded:
        over = f" (it ran out of memory: its limit is {limits.container.memory_bytes} bytes)"
    elif MEMORY_ABOVE in status.exceeded:
        over = " (memory ran out: that of this machine, or of all steps together)"
    elif "pids" in status.exceeded:
        over = f" (it could not make more processes: its limit is {limits.container.pids})"
    if status.signal is not None:
        return f"process {shown!r} was ended by signal {status.signal}{over}"
    return f"process {shown!r} did not complete successfully: exit code: {status.code}{over}"
