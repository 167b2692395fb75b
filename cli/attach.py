"""Between a container in the foreground and this process: signals, and the terminal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_ASKING_TO_END = (signal.SIGINT, signal.SIGTERM)
_CHUNK = 64 * 1024
_LAST_OUTPUT_S = 2.0  # after the container's end, for a terminal that something else still holds open


class Signalled(Protocol):
    """What is asked of a container here: containers.launcher.Container."""

    def signal(self, number: int) -> None: ...

    def kill(self) -> None: ...


@contextlib.contextmanager
def forwarding_signals(container: Signalled) -> Iterator[None]:
    """Within: signals go to the container; the second that asks it to end kills it.

    A container's first process ignores signals that it has no handler for, so asking may have no effect.
    """
    asked = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        del frame
        asked += number in _ASKING_TO_END
        if asked > 1:
            container.kill()
        else:
            container.signal(number)

    before = {number: signal.signal(number, handle) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def window_size(fd: int) -> tuple[int, int] | None:
    """Rows and columns of the terminal ``fd``, None when it is none or does not tell."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


@contextlib.contextmanager
def relayed_terminal(master: int, *, stdin: int | None, stdout: int) -> Iterator[None]:
    """Within: the container's terminal is shown on ``stdout``, fed from ``stdin`` and as large as it.

    master: the other end of the container's terminal. stdin: our terminal, put into raw mode meanwhile and restored
    however this is left; None sends nothing. On leaving, the rest of the output is waited for.
    """
    wake_read, wake_write = os.pipe()
    output = threading.Thread(target=_copy_output, args=(master, stdout), daemon=True)
    threads = [output]
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, wake_read)
        if stdin is not None:
            stack.enter_context(_raw_mode(stdin))
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


@contextlib.contextmanager
def _raw_mode(fd: int) -> Iterator[None]:
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
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
