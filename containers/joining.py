"""Processes that join a running container: exec, health checks, and what asks a service whether it is ready.

    parent ──fork──▶ [ joins the control groups, waits for its order; then all namespaces by one setns ]
       ▲                          │ clone into the PID namespace, with the same parent
       └───────reaps──────────── [ becomes the command, as a container's first process does ]

The parent is the container's own: its keeper, or the launcher. The process that joins is a copy of it, not dumpable, so
nobody in the container looks into its memory or at its program by /proc. It holds no descriptor of the host's but its
channel, which closes at execve. Joining control groups of version 1 waits for the kernel: so, once somebody has joined,
another one waits ahead for some seconds. Not for ever: it has a megabyte of memory of its own.
"""

from __future__ import annotations

import errno
import gc
import os
import sys

from containers import becoming, syscalls, wire
from containers.errors import BY_NAME, ContainerError, NamespaceError, NotExecutedError, StateError
from containers.events import readable
from core.openfiles import hint_if_out_of_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any, NoReturn, Protocol

    from containers.birth import Births
    from containers.cgroups import Session
    from containers.events import Watching
    from containers.guest import Guest

    class Timer(Protocol):
        """Something that is to be done later."""

        def cancel(self) -> None: ...

    class Streams(Protocol):
        """What a process that joined is to its parent: who has its output, and hears of its end."""

        terminal: int

        def open(self, *, has_input: bool) -> list[int]: ...

        def set_terminal(self, master: int, *, has_input: bool) -> None: ...

        def process_ended(self) -> None: ...

        def let_go(self, why: str) -> None: ...


_ALL_NAMESPACES = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWCGROUP
)
_FAILED = 125
_ENDING_S = 1.0
_ENDED = "the container ended before the command began"
_AHEAD_S = 10.0
_NEXT_S = 0.005  # what has just begun may end at once, and somebody waits for that


class Joined:
    """One process in the container, or on its way there.

    started: called once, with None when its command is being executed, or why it is not.
    over: called once, with its exit code, after ``started`` said None.
    """

    def __init__(
        self,
        relay: Streams,
        started: Callable[[ContainerError | None], None],
        over: Callable[[int], None],
    ) -> None:
        self.relay = relay
        self.started = started
        self.over = over
        self.pid = 0
        self.pidfd = -1
        self.channel: _socket.socket | None = None
        self.is_executing = False
        self.is_told = False
        self.has_input = False
        self.failure: ContainerError | None = None

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when it has ended."""
        if self.pidfd >= 0:
            try:
                syscalls.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                return


class _Ahead:
    """A process that has joined the control groups, and waits for its order."""

    def __init__(self, pid: int, pidfd: int, channel: _socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel


class Joins:
    """All that joined one container, for as long as that runs.

    births, session: that the container is of.
    later: has something done in so many seconds; None: who waits ahead waits until the container ends.
    """

    def __init__(
        self,
        loop: Watching,
        births: Births,
        session: Session,
        guest: Guest,
        later: Callable[[float, Callable[[], None]], Timer] | None = None,
    ) -> None:
        self._loop = loop
        self._later = later
        self._tired: Timer | None = None
        self._births = births
        self._session = session
        self._guest = guest
        self._all: list[Joined] = []
        self._ahead: _Ahead | None = None
        self.is_closed = False

    @property
    def running(self) -> list[Joined]:
        """Those that have not been reaped."""
        return list(self._all)

    @property
    def ahead(self) -> int:
        """How many processes of ours are in the container's control groups without being the container's."""
        return int(self._ahead is not None and readable(self._ahead.channel.fileno(), 0))  # it has said that it joined

    def prepare(self) -> None:
        """Have a process join ahead, if none waits. That there is none shows at the next exec."""
        if self._ahead is None and not self.is_closed:
            try:
                self._ahead = self._forked()
            except OSError:
                return
            if self._later is not None:
                self._tired = self._later(_AHEAD_S, self._send_away)

    def start(self, joined: Joined, spec: dict[str, Any], stdio: list[int]) -> None:
        """Have a process join and become the command of ``spec``. Raises ContainerError.

        stdio: the process's, closed here.
        """
        try:
            if self.is_closed:
                raise StateError("the container is not running")
            call_filter = self._births.filter_of(spec)
            ahead = self._taken() or self._forked()
            joined.channel = ahead.channel
            self._all.append(joined)
            self._loop.watch(ahead.pidfd, lambda: self._reap_helper(ahead))
            self._loop.watch(ahead.channel.fileno(), lambda: self._on_channel(joined), lambda: self._on_end(joined))
            body = wire.to_memfd((spec, call_filter))
            try:
                wire.send(ahead.channel, "go", [body, *stdio])
            finally:
                os.close(body)
        except BrokenPipeError:
            return  # it has ended: the channel's end tells
        except OSError as error:
            raise _refused(error, self._guest.pidfd) from error
        finally:
            for fd in stdio:
                os.close(fd)

    def close(self) -> None:
        """The container is ending: nobody joins any more, and what joined is killed by the kernel."""
        self.is_closed = True
        self._send_away()

    def _send_away(self) -> None:
        """Nobody waits ahead any more."""
        ahead = self._given_up()
        if ahead is not None:
            ahead.channel.close()  # it ends by that
            self._loop.watch(ahead.pidfd, lambda: self._reap_helper(ahead))

    def _given_up(self) -> _Ahead | None:
        """The process that waits, which is the caller's from here on."""
        tired, self._tired = self._tired, None
        if tired is not None:
            tired.cancel()
        ahead, self._ahead = self._ahead, None
        return ahead

    def _taken(self) -> _Ahead | None:
        """The process that waits, if the kernel has not taken it when the container ran out of memory."""
        ahead = self._given_up()
        if ahead is not None and readable(ahead.pidfd, 0):
            ahead.channel.close()
            self._reap_helper(ahead)
            return None
        return ahead

    def _forked(self) -> _Ahead:
        into, joins = self._session.doors(self._guest.name)
        ours = theirs = None
        try:
            ours, theirs = wire.socket_pair()
            pid = syscalls.clone3(0, cgroup=into)
            if pid == 0:
                _join(theirs, joins, self._guest.pidfd)
            return _Ahead(pid, os.pidfd_open(pid), ours)
        except OSError:
            if ours is not None:
                ours.close()
            raise
        finally:
            if theirs is not None:
                theirs.close()
            for fd in (into, *joins):
                if fd >= 0:
                    os.close(fd)

    def _reap_helper(self, ahead: _Ahead) -> None:
        self._loop.unwatch(ahead.pidfd)
        os.waitpid(ahead.pid, 0)
        os.close(ahead.pidfd)

    def _on_channel(self, joined: Joined) -> None:
        """Take what the process has to say until it is the command, or has ended."""
        assert joined.channel is not None
        received = wire.receive(joined.channel)
        if received is None:
            self._on_end(joined)
            return
        message: Any = received[0]
        if message[0] == "joined":
            return
        if message[0] == "pid":
            joined.pid = message[1]
            joined.pidfd = os.pidfd_open(joined.pid)
            self._loop.watch(joined.pidfd, lambda: self._on_exit(joined))
        elif message[0] == "terminal":
            joined.relay.set_terminal(received[1][0], has_input=joined.has_input)
        elif message[0] == "executing":
            joined.is_executing = True
        elif message[0] == "exit":
            joined.is_executing = False
            joined.failure = NotExecutedError(message[2])
            joined.failure.code = message[1]
        else:
            _kind, name, text, hint = message
            joined.failure = BY_NAME[name](text, hint=hint)

    def _on_end(self, joined: Joined) -> None:
        """The command has begun, or there will be none."""
        assert joined.channel is not None
        self._loop.unwatch(joined.channel.fileno())
        joined.channel.close()
        joined.channel = None
        if joined.is_executing and joined.failure is None:
            self._tell(joined, None)
            if self._later is None:
                self.prepare()
            else:
                self._later(_NEXT_S, self.prepare)
        elif joined.pidfd < 0:
            self._forget(joined)

    def _on_exit(self, joined: Joined) -> None:
        while joined.channel is not None:
            self._on_channel(joined)
        _pid, status = os.waitpid(joined.pid, 0)
        self._loop.unwatch(joined.pidfd)
        os.close(joined.pidfd)
        joined.pidfd = -1
        self._forget(joined)
        if joined.is_executing and joined.failure is None:
            code = os.waitstatus_to_exitcode(status)
            joined.relay.process_ended()
            joined.over(code if code >= 0 else 128 - code)
            joined.relay.let_go("exit")

    def _forget(self, joined: Joined) -> None:
        if joined in self._all:
            self._all.remove(joined)
        if not joined.is_executing or joined.failure is not None:
            self._tell(joined, joined.failure or StateError(_ENDED))
            joined.relay.process_ended()
            joined.relay.let_go("failed")

    def _tell(self, joined: Joined, error: ContainerError | None) -> None:
        if not joined.is_told:
            joined.is_told = True
            joined.started(error)


def _join(channel: _socket.socket, joins: list[int], container: int) -> NoReturn:
    """In the parent's child: join, and become the command. container: a pidfd of its first process."""
    try:
        try:
            gc.disable()
            syscalls.close_all_but({0, 1, 2, channel.fileno(), container, *joins})
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, syscalls.SIGKILL)
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
            _join_groups(joins, container)
            wire.send(channel, ("joined",))
            received = wire.receive(channel)
            if received is None:
                os._exit(0)
            body, *stdio = received[1]
            spec, call_filter = wire.from_memfd(body)
            os.close(body)
            _leave_oom_score(spec["extras"].get("oom_score") or 0)
            _enter(channel, container, spec, stdio, call_filter)
        except ContainerError as error:
            wire.send(channel, ("error", type(error).__name__, error.message, error.hint))
        except becoming.CommandError as error:
            wire.send(channel, ("exit", error.code, str(error)))
        except OSError as error:
            kind = NamespaceError if isinstance(error, PermissionError) else ContainerError
            what = f"cannot enter the container: {error}"
            wire.send(channel, ("error", kind.__name__, what, hint_if_out_of_files(error)))
        except Exception as error:
            # The outermost layer of this process: without a word from here its end would be taken for the command's.
            what = f"cannot enter the container: {type(error).__name__}: {error}"
            wire.send(channel, ("error", ContainerError.__name__, what, None))
    except BrokenPipeError:
        pass  # the parent is gone, or wants this no more
    finally:
        os._exit(_FAILED)


def _join_groups(joins: list[int], container: int) -> None:
    try:
        for fd in joins:
            os.write(fd, b"0")
            os.close(fd)
    except OSError as error:
        raise _refused(error, container) from error


def _refused(error: OSError, container: int) -> ContainerError:
    """Why nobody joins. A container that ends meanwhile takes its namespaces and its control groups along.

    container: a pidfd of its first process. Nobody is made in its PID namespace any more (ENOMEM) shortly before that
    tells its end.
    """
    is_of_an_end = error.errno in (errno.ENODEV, errno.ENOENT, errno.ENOMEM, errno.ESRCH)
    if readable(container, _ENDING_S if is_of_an_end else 0.0):
        return StateError(_ENDED)
    kind = NamespaceError if isinstance(error, PermissionError) else ContainerError
    return kind(f"cannot enter the container: {error}", hint=hint_if_out_of_files(error))


def _enter(
    channel: _socket.socket, container: int, spec: dict[str, Any], stdio: list[int], call_filter: bytes | None
) -> NoReturn:
    """Join all namespaces, and go on in a process that is in the PID namespace, too."""
    sys.path.clear()  # from here on an import would run a file of the container's choosing with our privileges
    sys.meta_path.clear()
    try:
        syscalls.setns(container, _ALL_NAMESPACES)
        pid = syscalls.clone3(syscalls.CLONE_PARENT)
    except OSError as error:
        raise _refused(error, container) from error
    if pid:
        wire.send(channel, ("pid", pid))
        os._exit(0)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    os.close(container)
    if spec["terminal"]:
        master, slave = becoming.open_terminal(spec["terminal_size"])
        wire.send(channel, ("terminal",), [master])
        os.close(master)
        stdio = [slave, slave, slave]
    becoming.execute(channel, spec, stdio, call_filter)


def _leave_oom_score(score: int) -> None:
    """Be for the kernel's memory killer what the container is, not what its parent is."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        if score or int(os.read(fd, 16)) < 0:
            os.write(fd, b"%d" % score)
    finally:
        os.close(fd)
