"""Programs of ours (``python -m NAME``) as child processes: forked where this process has imported them, else started.

Forked ones share with their parent, and with each other, what none of them writes, and begin without importing it anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn, Protocol

from core import zygote
from core.leaving import code_of, leave
from core.processes import end_with_parent

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FIRST_FD: Final = 3
_MOST_FDS: Final = 1 << 20
_ARGUMENTS: Final = 45  # where /proc/PID/stat tells their place, counted from the process's state: proc(5)


class Process(Protocol):
    """A child process, as subprocess.Popen is one."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Programs:
    """Programs that this process can fork, for it has imported them.

    names: modules with a ``main`` that takes its arguments from ``sys.argv`` and returns an exit code.
    further: modules that these import only when they run.
    Made before there is a thread or a connection: neither lives on in a forked process.
    """

    def __init__(self, names: Sequence[str], further: Sequence[str] = ()) -> None:
        self._mains: dict[str, Callable[[], int]] = {name: importlib.import_module(name).main for name in names}
        for name in further:
            importlib.import_module(name)
        self._stamp = zygote.Stamp()
        gc.collect()
        gc.freeze()  # no collection, here or in a child, writes to what there is now

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
        """The program, in a session of its own, with nothing on its standard input. It ends with this process.

        It is started anew when the files are not those that this process imported, as after an upgrade: a program that
        imports its rest later would be half of each.
        """
        if name not in self._mains or self._stamp.is_outdated() or len(os.listdir("/proc/self/task")) != 1:
            return spawned(_command(name, arguments), environment)
        be = functools.partial(_be, os.getpid(), name, self._mains[name], arguments, environment)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return Forked(be, null)
        finally:
            os.close(null)


def spawned(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A command in a session of its own, with nothing on its standard input. It ends with this process.

    environment: added to this process's. Raises OSError.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
        start_new_session=True,  # Ctrl-C in a terminal is for who started it
        preexec_fn=functools.partial(end_with_parent, os.getpid()),  # it takes no lock that a thread could hold
    )


def _command(name: str, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", name.removesuffix(".__main__"), *arguments]


def _be(
    parent: int, name: str, main: Callable[[], int], arguments: Sequence[str], environment: Mapping[str, str]
) -> NoReturn:
    """In the child: be the program."""
    end_with_parent(parent)
    os.environ.update(environment)
    call_oneself(_command(name, arguments))
    sys.argv = [name, *arguments]
    leave(code_of(main))


class Forked:
    """A process that was forked from this one, in a session of its own.

    body: what it does. Nothing of the caller's goes on in it, and no descriptor is open but the standard ones.
    stdin: a descriptor for its standard input. The caller's stays open.
    """

    def __init__(self, body: Callable[[], NoReturn], stdin: int) -> None:
        self._code: int | None = None
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it any more: no reason to start nothing
                stream.flush()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # the caller's handlers are not to run in it
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _begin(body, stdin, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def poll(self) -> int | None:
        """Its exit code, a negative number for a signal, or None while it runs."""
        if self._code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended. Raises subprocess.TimeoutExpired after ``timeout`` seconds."""
        if self.poll() is None:
            ending = os.pidfd_open(self.pid)
            try:
                if not _is_readable(ending, timeout):
                    assert timeout is not None
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            finally:
                os.close(ending)
        code = self.poll()
        assert code is not None
        return code

    def terminate(self) -> None:
        """Send SIGTERM, unless it is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, unless it is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _is_readable(fd: int, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def _begin(body: Callable[[], NoReturn], stdin: int, mask: set[int | signal.Signals]) -> NoReturn:
    """In the child, all that it does."""
    try:
        os.setsid()
        os.dup2(stdin, 0)
        os.closerange(_FIRST_FD, _MOST_FDS)
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        body()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def call_oneself(command: Sequence[str]) -> None:
    """Have ``ps`` show ``command`` for this process: in place of the arguments that it was started with, cut to fit."""
    with open("/proc/self/stat", "rb") as file:
        told = file.read().rpartition(b")")[2].split()
    start, end = int(told[_ARGUMENTS]), int(told[_ARGUMENTS + 1])
    if start < end:
        text = b"\0".join(map(os.fsencode, command))[: end - start - 1]
        ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)
