"""A zygote that forks a command for each who asks: arguments, environment, limits and descriptors are the asker's.

    client                              parent                      child
    connect, send ─────────────────────▶ accept, fork ─────────────▶ reads the request, becomes as the client is,
    pidfd of the child ◀──────────────────────────────────────────── runs main(arguments) of the module
    signals go to the pidfd; {"status": …} ◀──── reaps

The request is read after the fork: nothing of a caller gets into the parent. A client that goes away takes its child
along. The parent ends when nobody asked for a while, or when its code is not what is on the disk any more.

Whom a parent may serve is not known here: its socket is its user's alone, and whoever starts one names the socket so
that two callers share it only if each could have been the other.
"""

from __future__ import annotations

import _socket
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time

from core import packets, zygote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_POLL_S = 10.0
_LIMITS = (
    "CORE",
    "CPU",
    "DATA",
    "FSIZE",
    "MEMLOCK",
    "NOFILE",
    "NPROC",
    "RSS",
    "STACK",
    "AS",
    "SIGPENDING",
    "NICE",
    "RTPRIO",
)
_FAILED = 125
_SPARE_FD = 400
"""Descriptors that came are held from here on, until each is put under its own number."""


class ForkingError(zygote.ZygoteError):
    """Nobody forks at a socket, or the process that was forked could not become what was asked for."""


# The client's side


class Forked:
    """A command that runs in a fork. Ended by ``wait``, or by ``close``, which kills it.

    pidfd: of its process, for signals.
    """

    def __init__(self, sock: _socket.socket, pidfd: int) -> None:
        self._sock = sock
        self.pidfd = pidfd

    def wait(self) -> int:
        """Wait for its end; its status, as of waitpid. Raises ForkingError when the parent has gone."""
        received = packets.receive(self._sock)
        self.close()
        if received is None:
            raise ForkingError("the process that forked it has ended, and killed it")
        return int(json.loads(received[0])["status"])

    def close(self) -> None:
        """Let go of it: if it still runs it is killed."""
        self._sock.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def ask(path: str, arguments: Sequence[str]) -> Forked:
    """Have a command run by the parent that listens at ``path``, as this process would run it. Raises ForkingError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    body = -1
    try:
        sock.connect(path)
        asked, fds = described(arguments)
        body = os.memfd_create("shiplap", os.MFD_CLOEXEC)
        with open(body, "wb", closefd=False) as file:
            file.write(json.dumps(asked).encode("ascii"))
        packets.send(sock, b"run", [body, *fds[: packets.MAX_FDS - 1]])
        received = packets.receive(sock)
    except OSError as error:
        sock.close()
        raise ForkingError(f"nobody forks at {path}: {error.strerror}") from error
    finally:
        if body >= 0:
            os.close(body)
    if received is None or not received[1]:
        sock.close()
        raise ForkingError("the process that was forked ended before it began")
    return Forked(sock, received[1][0])


def described(arguments: Sequence[str]) -> tuple[dict[str, Any], list[int]]:
    """What a fork has to take over of this process, and the descriptors that go with it: all that execve would pass on.

    The working directory is the first of them.
    """
    numbers = [fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_passed_on(fd)]
    umask = os.umask(0)
    os.umask(umask)
    ignored = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
    asked = {
        "arguments": list(arguments),
        "environment": [[os.fsdecode(name), os.fsdecode(value)] for name, value in os.environb.items()],
        "umask": umask,
        "limits": {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in _LIMITS},
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score_adj": _oom_score(),
        "ignored": sorted(int(number) for number in ignored),
        "blocked": sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "numbers": numbers,
    }
    return asked, [os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), *numbers]


def _is_passed_on(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # that of the listing


# The child's side


def take_over(asked: dict[str, Any], fds: list[int]) -> None:
    """Become as the process that ``described`` itself. fds: as they came, owned from here on. Raises OSError.

    A limit that would be above this process's own hard one, or a niceness that takes a privilege, is refused.
    """
    held = [_moved_up(fd) for fd in fds]
    folder, *others = held
    os.fchdir(folder)
    os.close(folder)
    for fd, number in zip(others, asked["numbers"], strict=True):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)
    for name in set(os.environ):
        del os.environ[name]
    os.environ.update((name, value) for name, value in asked["environment"])
    time.tzset()
    os.umask(asked["umask"])
    for name, soft in asked["limits"].items():
        kind = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))
    os.setpriority(os.PRIO_PROCESS, 0, asked["niceness"])
    if _oom_score() != asked["oom_score_adj"]:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(asked["oom_score_adj"]))
    for number in asked["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, asked["blocked"])


def _moved_up(fd: int) -> int:
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _SPARE_FD)
    os.close(fd)
    return moved


def _oom_score() -> int:
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


def _run(sock: _socket.socket, command: Callable[[list[str]], int]) -> int:
    """In the child: the request, then the command; its exit code."""
    sock = packets.from_fd(_moved_up(sock.detach()))
    received = packets.receive(sock)
    if received is None:
        return 0
    body, *fds = received[1]
    with open(body, "rb") as file:
        file.seek(0)
        asked = json.load(file)
    take_over(asked, fds)
    pidfd = os.pidfd_open(os.getpid())
    packets.send(sock, b"begun", [pidfd])
    os.close(pidfd)
    sock.close()
    sys.argv = list(asked["arguments"])
    try:
        return command(asked["arguments"][1:])
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


# The parent


class _Parent:
    """Forks for each who connects. command: what a child runs with its arguments. idle_s: it ends after so long."""

    def __init__(self, path: str, command: Callable[[list[str]], int], idle_s: float) -> None:
        self._path = path
        self._command = command
        self._idle_s = idle_s
        if os.path.exists(path):
            os.unlink(path)
        self._listener = packets.listen(path)
        self._inode = os.stat(path).st_ino
        self._stamp = zygote.Stamp()
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        self._clients: dict[int, tuple[_socket.socket, int, int]] = {}
        self._ended: dict[int, int] = {}

    def serve(self) -> None:
        last = time.monotonic()
        while self._clients or time.monotonic() - last < self._idle_s:
            timeout_s = _POLL_S if self._clients else min(_POLL_S, self._idle_s)
            for fd, _events in self._poll.poll(timeout_s * 1000):
                last = time.monotonic()
                if fd == self._listener.fileno():
                    self._fork()
                elif fd in self._clients:
                    self._lose(fd)
                elif fd in self._ended:
                    self._reap(fd)
            if self._is_outdated() and not self._clients:
                break
        self._leave()

    def _is_outdated(self) -> bool:
        return self._stamp.is_outdated()

    def _fork(self) -> None:
        try:
            sock = packets.accept(self._listener)
        except OSError:
            return
        if packets.peer(sock)[1] != os.geteuid() or self._is_outdated():
            sock.close()
            return
        pid = os.fork()
        if pid == 0:
            code = _FAILED
            try:
                self._listener.close()
                code = _run(sock, self._command)
            finally:
                os._exit(code & 0xFF)
        pidfd = os.pidfd_open(pid)
        self._clients[sock.fileno()] = (sock, pid, pidfd)
        self._ended[pidfd] = sock.fileno()
        self._poll.register(sock, 0)  # its end alone: what it says is the child's to read
        self._poll.register(pidfd, select.POLLIN)

    def _lose(self, fd: int) -> None:
        """A client has gone: so does its child."""
        sock, _pid, pidfd = self._clients[fd]
        self._poll.unregister(sock)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _reap(self, pidfd: int) -> None:
        sock, pid, _pidfd = self._clients.pop(self._ended.pop(pidfd))
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _pid, status = os.waitpid(pid, 0)
        try:
            packets.send(sock, json.dumps({"status": status}).encode("ascii"), flags=_socket.MSG_DONTWAIT)
            self._poll.unregister(sock)
        except (OSError, KeyError):
            pass  # the client has gone
        sock.close()

    def _leave(self) -> None:
        self._listener.close()
        try:
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except FileNotFoundError:
            return


def main(arguments: list[str], ready: Callable[[], None]) -> None:
    """The parent's life. arguments: the module whose ``main(arguments) -> int`` is the command, the socket, idle_s."""
    module, path, idle_s = arguments
    command = __import__(module, fromlist=["main"]).main
    parent = _Parent(path, command, float(idle_s))
    zygote.settle()
    ready()
    parent.serve()
