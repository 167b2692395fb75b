"""A RUN's container: its specification, its output to the monitor, its end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from builder.errors import BuildCancelledError
from builder.graph.vertices import RunOp, Vertex
from builder.request.limits import StepLimits
from builder.running.failures import StepFailedError
from builder.running.hints import hint_for
from builder.running.masking import OutputMasker
from builder.running.watch import Watch
from containers.capabilities import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from containers.launcher import Container, Launcher
from containers.limits import MEMORY_ABOVE
from containers.spec import ContainerSpec, ExitStatus, File, Mount
from core.events import Monitor, StepOutput
from core.rootfs import RootLayer

_READ_SIZE = 1 << 20
_POLL_MS = 100  # how soon a cancellation reaches a step that prints nothing
_TAIL_BYTES = 64 << 10
_READS_AFTER_END = 64  # a pipe may give less at once than it holds


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
    output = _Output(vertex.step.id, monitor, run.masked)
    watch = Watch(limits, run.upper, run.mounts)
    out_read, out_write = _pipe()
    err_read, err_write = _pipe()
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            container = launcher.start(run.spec(), stdin=null, stdout=out_write, stderr=err_write)
        finally:
            os.close(out_write)
            os.close(err_write)
            os.close(null)
        try:
            exceeded = _follow(container, {out_read: 1, err_read: 2}, output, watch, stopped)
        except BaseException:
            container.kill()
            container.wait()
            raise
        status = container.wait()
    finally:
        os.close(out_read)
        os.close(err_read)
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
            hint=None if exceeded else hint_for(op, status, output.tail()),
        )


class _Output:
    """What a step prints, masked, on its way to the monitor; keeps the last ``_TAIL_BYTES``."""

    def __init__(self, step: int, monitor: Monitor, masked: Sequence[bytes]) -> None:
        self._step = step
        self._monitor = monitor
        self._maskers: dict[int, OutputMasker] = {1: OutputMasker(masked), 2: OutputMasker(masked)} if masked else {}
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, stream: Literal[1, 2], data: bytes) -> None:
        """Pass on what has been read. Empty ``data`` is the end of the stream."""
        if masker := self._maskers.get(stream):
            data = masker.feed(data) if data else masker.finish()
        if not data:
            return
        self._monitor.emit(StepOutput(self._step, stream, data, time.time()))
        self._chunks.append(data)
        self._size += len(data)
        while self._size - len(self._chunks[0]) >= _TAIL_BYTES:
            self._size -= len(self._chunks.popleft())

    def tail(self) -> bytes:
        return b"".join(self._chunks)[-_TAIL_BYTES:]


def _follow(
    container: Container,
    streams: dict[int, Literal[1, 2]],
    output: _Output,
    watch: Watch,
    stopped: Callable[[], bool],
) -> str | None:
    """Pass output on until both pipes are closed. They close when every process of the container has ended.

    A container may have given its pipes to another one, for example by a socket in a cache mount. They then stay open
    for longer; what they hold when the container ends is the last output.

    Returns the limit for which the container was killed, in words.
    """
    poller = select.poll()
    for fd in streams:
        poller.register(fd, select.POLLIN)
    open_streams = len(streams)
    killed = False
    exceeded = None
    reads_left: int | None = None  # once it has ended
    while open_streams and reads_left != 0:
        ready = poller.poll(_POLL_MS if reads_left is None else 0)
        if reads_left is not None:
            reads_left = reads_left - 1 if ready else 0
        elif (killed or not ready) and container.ended():
            reads_left = _READS_AFTER_END
        for fd, _ in ready:
            data = os.read(fd, _READ_SIZE)
            if not killed:  # output that was still in the pipe when a limit ended the step is dropped
                output.add(streams[fd], data)
                watch.printed(len(data))
            if not data:
                poller.unregister(fd)
                open_streams -= 1
        if not killed:
            exceeded = watch.exceeded()
            if exceeded or stopped():
                container.kill()
                killed = True
    return exceeded


def _pipe() -> tuple[int, int]:
    """A pipe, large where the kernel allows it: a step that prints much does not wait for each of our reads."""
    read, write = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # an unprivileged user may have used up their share of pipe memory
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _READ_SIZE)
    return read, write


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
