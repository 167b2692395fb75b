"""A container as its starter sees it: its end, signals, and what is asked of it while it runs."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from containers import wire
from containers.errors import BY_NAME, ContainerError, LauncherError, StateError
from containers.events import readable
from containers.spec import ContainerSpec, ExitStatus, to_wire
from core.closing import Closing

if TYPE_CHECKING:
    import _socket

_CLOSED = (errno.EBADF, errno.EPIPE, errno.ECONNRESET)


class Container(Closing):
    """A container that was started, as its starter sees it.

    Made by: ``Launcher.start``, once the command is being executed.
    Threads: one waits; while it does, any other may send a signal or change the terminal's size.
    Ended by: ``wait``, when the command has ended and everything of it is gone; or ``close``, which kills it. It also
    ends with the launcher process, and with the launcher's ``close``.

    terminal: the other end of the container's terminal when the spec asked for one, else None.
    over: is called once, when it has ended.
    """

    def __init__(self, answers: _socket.socket, terminal: int | None, over: Callable[[], object]) -> None:
        self.terminal = terminal
        self._over: Callable[[], object] | None = over
        self._answers = answers
        self._lock = threading.Lock()
        self._status: ExitStatus | None = None
        self._error: ContainerError | None = None

    def wait(self, timeout_s: float | None = None) -> ExitStatus:
        """Wait until the container has ended and everything of it is gone.

        Raises TimeoutError after ``timeout_s``; LauncherError when the launcher died (the container with it);
        NetworkError when its command failed, and its network had ended before.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=-1 if timeout_s is None else timeout_s):
            raise TimeoutError("the container is still running")
        try:
            if self._error is not None:
                raise self._error
            if self._status is None:
                if deadline is not None and not readable(self._answers.fileno(), deadline - time.monotonic()):
                    raise TimeoutError("the container is still running")
                try:
                    message = answer(self._answers, "exit")[0]
                except ContainerError as error:
                    self._error = error
                    raise
                finally:
                    self._answers.close()
                    self._end()
                self._status = _exit_status(message[1], message[2], tuple(message[3]))
            return self._status
        finally:
            self._lock.release()

    def fileno(self) -> int:
        """A descriptor for poll(2), readable once ``wait`` would return at once. Not after ``wait`` or ``close``."""
        return self._answers.fileno()

    def ended(self) -> bool:
        """Whether ``wait`` would return at once."""
        if self._status is not None or self._error is not None:
            return True
        descriptor = self._answers.fileno()  # none once another thread's ``wait`` has its answer, or after ``close``
        return descriptor < 0 or readable(descriptor, 0)

    def kill(self) -> None:
        """SIGKILL all its processes. Does nothing when it has ended."""
        self._tell("kill", 0)

    def signal(self, number: int) -> None:
        """Send a signal to its first process, which ignores those it has no handler for.  pid_namespaces(7)

        With ``init`` of the spec, to all of its processes, as if each had been sent it alone.
        """
        self._tell("signal", int(number))

    def execute(self, spec: ContainerSpec, *, stdin: int, stdout: int, stderr: int) -> Container:
        """Have another process join it; returns once its command is being executed. It is a container's equal to us.

        spec: of which command, variables, user, directory, terminal, capabilities and ulimits count. The process ends
        with the container. Raises StateError when that has ended, and other ContainerErrors.
        """
        body = wire.to_memfd(to_wire(spec._replace(init=False, reaper=False)))  # the container has its first process
        try:
            with self._running():
                return started(self._ask(("exec",), body, stdin, stdout, stderr), lambda: None)
        finally:
            os.close(body)

    def accompany(self, spec: ContainerSpec, *, stdin: int, stdout: int, stderr: int) -> Container:
        """Start another container beside it, which ends with it; returns once its command is being executed.

        It is in this one's user and network namespaces, and so has its IDs, its addresses and its ways; nothing else of
        it but what ``OthersRoot`` shows. This one's spec has a ``group``, whose limits hold both. Raises StateError
        when it has ended, and other ContainerErrors.
        """
        body = wire.to_memfd(to_wire(spec))
        try:
            with self._running():
                return started(self._ask(("accompany",), body, stdin, stdout, stderr), lambda: None)
        finally:
            os.close(body)

    def listens(self, port: int, protocol: str = "tcp") -> bool:
        """Whether something in it takes what others send to a port. protocol: tcp or udp.

        Raises StateError when it has ended.
        """
        with self._running(), contextlib.closing(self._ask(("listens", protocol, port))) as answers:
            return bool(answer(answers, "listens")[0][1])

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """For a question that a container cannot answer any more when it has ended: raises StateError then."""
        try:
            yield
        except (OSError, LauncherError) as error:
            if not isinstance(error, OSError) and not self.ended():
                raise
            if isinstance(error, OSError) and error.errno not in _CLOSED:
                raise
            raise StateError("the container has ended") from error

    def _ask(self, what: tuple[object, ...], *fds: int) -> _socket.socket:
        """The socket for the answers. Raises OSError."""
        ours, theirs = wire.socket_pair()
        try:
            wire.send(self._answers, what, [theirs.fileno(), *fds])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def resize(self, rows: int, columns: int) -> None:
        """Tell the container's terminal its new size; without one nothing happens."""
        if self.terminal is not None:
            import termios

            termios.tcsetwinsize(self.terminal, (rows, columns))

    def close(self) -> None:
        """Kill it if it still runs, without waiting, and close its terminal."""
        self._answers.close()
        self._end()
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None

    def _end(self) -> None:
        """Call ``over`` once: the container has ended, or is about to."""
        over, self._over = self._over, None
        if over is not None:
            over()

    def _tell(self, what: str, argument: int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self._answers.fileno() >= 0:
                wire.send(self._answers, (what, argument))


def started(answers: _socket.socket, over: Callable[[], object]) -> Container:
    """The container that was asked for, once its command is being executed."""
    terminal = None
    try:
        message, fds = answer(answers, "started", "terminal")
        if message[0] == "terminal":
            terminal = fds[0]
            answer(answers, "started")
    except BaseException:
        answers.close()
        if terminal is not None:
            os.close(terminal)
        raise
    return Container(answers, terminal, over)


def answer(answers: _socket.socket, *wanted: str) -> tuple[Any, list[int]]:
    """The next message, which has to be of a wanted kind. An error message is raised as the error that it is."""
    received = wire.receive(answers)
    if received is None:
        raise LauncherError(
            "the launcher process ended, and its containers with it",
            hint="`dmesg`, or launcher.log in its directory, may tell why",
        )
    message: Any = received[0]
    if message[0] == "error":
        _kind, name, text, hint = message
        raise BY_NAME[name](text, hint=hint)
    if message[0] not in wanted:
        raise LauncherError(f"unexpected answer of the launcher: {message[0]}")
    return message, received[1]


def _exit_status(status: int, message: str, exceeded: tuple[str, ...]) -> ExitStatus:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return ExitStatus(128 - code, -code, message, exceeded)
    return ExitStatus(code, None, message, exceeded)
