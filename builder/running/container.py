"""A container from its start to its end: what it prints goes to a monitor, and it is held to its limits.

Steps of a build and jobs of a pipeline are run by it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from builder.running.masking import OutputMasker
from builder.running.watch import Watch
from containers.launcher import Container, Launcher
from containers.spec import ContainerSpec, ExitStatus
from core.events import Monitor, StepOutput

_READ_SIZE: Final = 1 << 20
_POLL_MS: Final = 100  # how soon a cancellation reaches a container that prints nothing
_TAIL_BYTES: Final = 64 << 10
_READS_AFTER_END: Final = 64  # a pipe may give less at once than it holds
_READS_AT_A_BELL: Final = 64
_STREAMS: Final[tuple[Literal[1, 2], ...]] = (1, 2)


class Output:
    """What a container prints, masked, on its way to the monitor; keeps the last ``_TAIL_BYTES``.

    step: whose output it is.
    masked: what is not to be seen in it.
    """

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
        self._emit(stream, data)

    def begin(self, step: int) -> None:
        """What comes from now on belongs to another step. What was held back until now is the last one's."""
        for stream, masker in self._maskers.items():
            self._emit(1 if stream == 1 else 2, masker.finish())
        self._step = step
        self._chunks.clear()
        self._size = 0

    def _emit(self, stream: Literal[1, 2], data: bytes) -> None:
        if not data:
            return
        self._monitor.emit(StepOutput(self._step, stream, data, time.time()))
        self._chunks.append(data)
        self._size += len(data)
        while self._size - len(self._chunks[0]) >= _TAIL_BYTES:
            self._size -= len(self._chunks.popleft())

    def tail(self) -> bytes:
        """The end of what the step printed."""
        return b"".join(self._chunks)[-_TAIL_BYTES:]


class Ended(NamedTuple):
    """How a container ended. exceeded: the limit for which it was killed, in words."""

    status: ExitStatus
    exceeded: str | None


Bells: TypeAlias = Mapping[int, Callable[[], None]]
"""Descriptors that the container writes to, and what is done then."""

_NO_BELLS: Final[Bells] = MappingProxyType({})


Streams: TypeAlias = Mapping[int, Literal[1, 2]]
"""Descriptors that a container's output comes from."""


class Starts(Protocol):
    """Starts a container on these descriptors, as ``Launcher.start`` does."""

    def __call__(self, spec: ContainerSpec, *, stdin: int, stdout: int, stderr: int) -> Container: ...


def run_container(
    spec: ContainerSpec,
    launcher: Launcher,
    output: Output,
    watch: Watch,
    has_to_die: Callable[[Container], bool],
    *,
    bells: Bells = _NO_BELLS,
    is_merged: bool = False,
) -> Ended:
    """Run a container to its end, as ``started_container`` and ``follow``."""
    with started_container(spec, launcher.start, is_merged=is_merged) as (container, streams):
        return follow(container, streams, output, watch, has_to_die, bells=bells)


@contextlib.contextmanager
def started_container(
    spec: ContainerSpec, start: Starts, *, is_merged: bool = False
) -> Iterator[tuple[Container, Streams]]:
    """A container that has been started, and where its output comes from; with a terminal, that is the one stream.

    is_merged: standard error is standard output's pipe, so that both come in the order in which they were printed.
    Once the context ends, the container has been killed, if it has not ended.
    """
    with contextlib.ExitStack() as held:
        reads: list[int] = []
        with contextlib.ExitStack() as given:

            def pipe() -> int:
                read, write = _pipe()
                held.callback(os.close, read)
                given.callback(os.close, write)
                reads.append(read)
                return write

            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            given.callback(os.close, null)
            stdout = pipe()
            stderr = stdout if is_merged else pipe()
            container = start(spec, stdin=null, stdout=stdout, stderr=stderr)
        streams: dict[int, Literal[1, 2]] = dict(zip(reads, _STREAMS, strict=False))
        if container.terminal is not None:
            streams[container.terminal] = 1
        with container:
            yield container, streams


def follow(
    container: Container,
    streams: Streams,
    output: Output,
    watch: Watch,
    has_to_die: Callable[[Container], bool],
    *,
    bells: Bells = _NO_BELLS,
) -> Ended:
    """Follow a container to its end.

    has_to_die: asked several times a second while it runs; it may send signals. True: the container is killed, and
    what it prints from then on is dropped.
    bells: see ``_Following``.
    Whatever is raised, the container has ended.
    """
    try:
        exceeded = _Following(container, streams, output, watch, bells).follow(has_to_die)
    except BaseException:
        container.kill()
        container.wait()
        raise
    return Ended(container.wait(), exceeded)


class _Following:
    """Passes output on until the container has ended, and what it printed has been read.

    A container may have given its pipes to another one, for example by a socket in a cache mount. They then stay open
    for longer; what they hold when the container ends is the last output. It may also close them, and go on.

    bells: descriptors that the container writes to, and what is done then. All that it had printed before has been
    passed on by then: a container that waits for the answer has its output parted exactly there.
    """

    def __init__(
        self,
        container: Container,
        streams: Mapping[int, Literal[1, 2]],
        output: Output,
        watch: Watch,
        bells: Bells,
    ) -> None:
        self._container = container
        self._streams = streams
        self._output = output
        self._watch = watch
        self._bells = bells
        self._open = set(streams)
        self._is_killed = False
        self._poller = select.poll()
        for fd in (*streams, *bells, container.fileno()):
            self._poller.register(fd, select.POLLIN)

    def follow(self, has_to_die: Callable[[Container], bool]) -> str | None:
        """Returns the limit for which the container was killed, in words."""
        exceeded = None
        reads_left: int | None = None  # once it has ended
        while reads_left is None or (reads_left and self._open):
            ready = {fd for fd, _ in self._poller.poll(_POLL_MS if reads_left is None else 0)}
            if reads_left is not None:
                reads_left = reads_left - 1 if ready & self._open else 0
            elif self._container.fileno() in ready:
                reads_left = _READS_AFTER_END
                self._poller.unregister(self._container.fileno())
            self._read(ready)
            for bell in ready & self._bells.keys():
                self._read_all()
                self._bells[bell]()
            if not self._is_killed:
                exceeded = self._watch.exceeded()
                if exceeded or has_to_die(self._container):
                    self._container.kill()
                    self._is_killed = True
        return exceeded

    def _read(self, ready: set[int]) -> None:
        for fd in ready & self._open:
            data = _read(fd)
            if not self._is_killed:  # output that was still in the pipe when a limit ended the step is dropped
                self._output.add(self._streams[fd], data)
                self._watch.printed(len(data))
            if not data:
                self._poller.unregister(fd)
                self._open.discard(fd)

    def _read_all(self) -> None:
        """Read what was printed until now; of somebody who goes on printing, not more than a pipe holds."""
        for _ in range(_READS_AT_A_BELL):
            ready = {fd for fd, _ in self._poller.poll(0)} & self._open
            if not ready:
                return
            self._read(ready)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _READ_SIZE)
    except OSError as error:
        if error.errno != errno.EIO:  # a terminal that nobody has open any more
            raise
        return b""


def _pipe() -> tuple[int, int]:
    """A pipe, large where the kernel allows it: a step that prints much does not wait for each of our reads."""
    read, write = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # an unprivileged user may have used up their share of pipe memory
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _READ_SIZE)
    return read, write
