"""Attaches a foreground container to this process: passes signals on, and connects the terminal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import termios
import threading
import tty
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

if TYPE_CHECKING:
    from containers.launcher import Launcher
    from containers.spec import ContainerSpec, ExitStatus

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_ASKING_TO_END = (signal.SIGINT, signal.SIGTERM)
_CHUNK = 64 * 1024
_LAST_OUTPUT_S = 2.0  # wait so long after the container's end while something else holds its terminal open


class Signalled(Protocol):
    """The part of containers.launcher.Container that is needed here."""

    def signal(self, number: int) -> None: ...

    def kill(self) -> None: ...


class SignalForwarder:
    """A context manager: within it, this process's signals go to a container. The second request to end kills it.

    A container's first process ignores signals that it has no handler for, so the first request may have no effect.
    Signals that come before there is a container wait for it. A second request to end is then a KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self._container: Signalled | None = None
        self._early: list[int] = []
        self._asked = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _FORWARDED:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def attach(self, container: Signalled) -> None:
        """From now on ``container`` gets the signals. Those that are waiting go first."""
        self._container = container
        while self._early:
            container.signal(self._early.pop(0))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._asked += number in _ASKING_TO_END
        if self._container is None:
            if self._asked > 1:
                raise KeyboardInterrupt
            self._early.append(number)
        elif self._asked > 1:
            self._container.kill()
        else:
            self._container.signal(number)


def window_size(fd: int) -> tuple[int, int] | None:
    """Rows and columns of the terminal ``fd``; None when it is no terminal or does not tell."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


@contextlib.contextmanager
def relayed_terminal(master: int, *, stdin: int | None, stdout: int) -> Iterator[None]:
    """Within: the container's terminal is shown on ``stdout``, fed from ``stdin``, and kept as large as ``stdin``.

    On leaving, it waits for the rest of the output.

    master: the other end of the container's terminal.
    stdin: our terminal, in raw mode until the block ends, however it ends; None: nothing is sent.
    """
    wake_read, wake_write = os.pipe()
    output = threading.Thread(target=_copy_output, args=(master, stdout), daemon=True)
    threads = [output]
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, wake_read)
        if stdin is not None:
            stack.enter_context(raw_mode(stdin))
            stack.enter_context(_same_size(stdin, master))
            threads.append(threading.Thread(target=_copy_input, args=(stdin, master, wake_read), daemon=True))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            output.join(_LAST_OUTPUT_S)
            os.close(wake_write)
            for thread in threads[1:]:
                thread.join(_LAST_OUTPUT_S)


def entered(spec: ContainerSpec, args: tuple[str, ...]) -> ContainerSpec:
    """The same container with another command, on a terminal if we have one: for whoever looks around in it."""
    terminal = os.isatty(_STDIN) and os.isatty(_STDOUT)
    env = dict(spec.env)
    if terminal:
        env.setdefault("TERM", os.environ.get("TERM", "xterm"))
    size = window_size(_STDIN) or spec.terminal_size
    return spec._replace(args=args, env=tuple(env.items()), terminal=terminal, terminal_input=True, terminal_size=size)


def in_foreground(launcher: Launcher, spec: ContainerSpec, *, interactive: bool) -> ExitStatus:
    """Run a container on this process's standard streams, with its signals, to its end.

    interactive: whether the container gets our standard input. ``spec`` says whether it has a terminal of its own.
    """
    with contextlib.ExitStack() as stack:
        null = os.open(os.devnull, os.O_RDONLY)
        stack.callback(os.close, null)
        stdout, stderr = (stack.enter_context(output_for(fd)) for fd in (_STDOUT, _STDERR))
        signals = stack.enter_context(SignalForwarder())
        container = launcher.start(spec, stdin=_STDIN if interactive else null, stdout=stdout, stderr=stderr)
        signals.attach(container)
        if container.terminal is not None:
            stdin = _STDIN if interactive else None
            stack.enter_context(relayed_terminal(container.terminal, stdin=stdin, stdout=_STDOUT))
        return container.wait()


@contextlib.contextmanager
def output_for(fd: int) -> Iterator[int]:
    """The descriptor to give a container as its output in place of ``fd``.

    A regular file belongs to a user of the host. A program in the container could write to it, but not open it again as
    /dev/stdout or /dev/stderr, as nginx does. So the container gets a pipe instead, which is copied to the file; on
    leaving, this waits for the rest of it. Everything else is given as it is.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        yield fd
        return
    read, write = os.pipe()
    copying = threading.Thread(target=_copy_output, args=(read, fd), daemon=True)
    copying.start()
    try:
        yield write
    finally:
        os.close(write)
        copying.join()
        os.close(read)


@contextlib.contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSANOW)  # not TCSAFLUSH, its default: what was typed ahead is for the program
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _same_size(source: int, target: int) -> Iterator[None]:
    def copy(number: int = 0, frame: FrameType | None = None) -> None:
        del number, frame
        size = window_size(source)
        if size:
            termios.tcsetwinsize(target, size)

    before = signal.signal(signal.SIGWINCH, copy)
    try:
        copy()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _copy_output(source: int, target: int) -> None:
    with contextlib.suppress(OSError):  # EIO: the last process has closed the terminal; EPIPE: nobody reads us
        while data := os.read(source, _CHUNK):
            _write_all(target, data)


def _copy_input(source: int, target: int, wake: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            ready, _, _ = select.select([source, wake], [], [])
            if wake in ready:
                return
            data = os.read(source, _CHUNK)
            if not data:
                return
            _write_all(target, data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
