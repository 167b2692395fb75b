"""A container's first process where the command is not: it reaps, passes signals on, and ends when the command has.

Without it the command is process 1 of its pid namespace. Nobody then reaps what it left behind, and the kernel keeps
signals from it that it has no handler for. What the command left running ends with this process in either case.

The process is a copy of the launcher, and runs nothing of the container. It is not dumpable, and has capabilities that
no process of the container has: for either reason nobody in there reads its memory.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what ``signal`` wraps
import ctypes
import os

from containers import syscalls, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

_NAME = b"init"
_ARG_START, _ARG_END = 45, 46  # among the fields of /proc/PID/stat that stand behind the name.  proc_pid_stat(5)


def stay_behind(channel: _socket.socket) -> None:
    """Fork, and return in the child, which is to become the command. Raises OSError.

    This process says ``begun`` on the channel once the command is being executed or could not be, and ``ended`` with
    the command's status, as of waitpid. Then it ends, and with it everything in its pid namespace. What comes from
    outside goes to all processes; see ``_tend``.
    """
    _stay(channel, _tend)


def stay_beside(channel: _socket.socket) -> None:
    """As ``stay_behind``, but as docker's ``--init``: signals go to the command alone, and the end is with it."""
    _stay(channel, _pass_on)


def _stay(channel: _socket.socket, tend: Callable[[int, set[int]], int]) -> None:
    begun, begins = os.pipe2(os.O_CLOEXEC)
    signals = _signal.valid_signals()
    _signal.pthread_sigmask(_signal.SIG_BLOCK, signals)
    command = os.fork()
    if command == 0:
        os.close(begun)  # the other end closes at execve
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        return
    os.close(begins)
    _let_go({begun, channel.fileno()})
    os.read(begun, 1)
    wire.send(channel, ("begun",))
    wire.send(channel, ("ended", tend(command, signals)))
    os._exit(0)


def _let_go(kept: set[int]) -> None:
    """Hold nothing of the container's, and tell it nothing about the host."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    if start:
        ctypes.memset(start, 0, end - start)  # the launcher's arguments
        ctypes.memmove(start, _NAME, min(len(_NAME), end - start - 1))
    name = ctypes.create_string_buffer(_NAME)
    syscalls.prctl(syscalls.PR_SET_NAME, ctypes.addressof(name))
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.close_all_but(kept)
    os.chdir("/")


def _tend(command: int, signals: set[int]) -> int:
    """Reap, and pass on what comes from outside, until the command has ended. Returns its status.

    Once SIGTERM has come, until all have ended: the shell is gone at once, and what it called is still putting things
    in order. Whoever sent the signal sends SIGKILL when that takes too long.
    """
    status: int | None = None
    is_ending = False
    while True:
        received = _signal.sigwaitinfo(signals)
        if received.si_signo == _signal.SIGCHLD:
            status, is_alone = _reaped(command, status)
            if status is not None and (is_alone or not is_ending):
                return status
        elif received.si_pid == 0:  # the sender is in no namespace of ours
            is_ending = is_ending or received.si_signo == _signal.SIGTERM
            try:
                os.kill(-1, received.si_signo)
            except ProcessLookupError:
                continue  # what is left has ended, and waits to be reaped


def _pass_on(command: int, signals: set[int]) -> int:
    """Reap, and pass on to the command what comes from outside, until it has ended. Returns its status."""
    status: int | None = None
    while status is None:
        received = _signal.sigwaitinfo(signals)
        if received.si_signo == _signal.SIGCHLD:
            status, _is_alone = _reaped(command, status)
        elif received.si_pid == 0:
            try:
                os.kill(command, received.si_signo)
            except ProcessLookupError:
                continue  # it has ended, and waits to be reaped
    return status


def _reaped(command: int, status: int | None) -> tuple[int | None, bool]:
    """Reap what has ended. Returns the command's status, None while it runs; and whether nothing else is there."""
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status, True
        if not pid:
            return status, False
        if pid == command:
            status = ended
