"""A process that forks a command for each who asks, if it could have been them: what it forks is as they are.

    client (``core.forked``)            parent                      child, forked ahead as a rule
    connect; could I be that one? ─────▶ accept, hand over ───────▶ can I look into it?
    ◀───────────────────────────────────────────────────────────── a name that only such a one can know
    the request ──────────────────────────────────────────────────▶ could it have been me?
    ◀───────────────────────────────────────────────────────────── becomes as the client is: begun, its pidfd
    go ───────────────────────────────────────────────────────────▶ runs the command
    the exit code ◀─────────────────────────────────────────────── says it last
    signals go to the pidfd; what ended it otherwise ◀──── reaps

The request is read after the fork: nothing of a caller gets into the parent. A client that goes away takes its child
along, and so does a parent. The parent ends when nobody asked for a while, when memory is short, and when its code is
not what is on the disk any more. Nothing needs it: who finds none, or one that may not serve it, runs the command by
itself.
"""

from __future__ import annotations

import _locale
import _socket
import contextlib
import fcntl
import gc
import io
import marshal
import os
import resource
import select
import signal
import sys
import time

from core import forked, kernel, leaving, likeness, packets, zygote
from core.leaving import code_of
from core.processes import end_with_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

PLACES = 4
"""How many such processes may have their sockets in one directory."""

_POLL_S = 10.0
_CALM_S = 0.03  # after a client: what it asked for comes first
_FAILED = 125
_PRESSED_PERCENT = 10.0
_FIRST_TO_GO = 1000
_LONGEST_LOG = 1 << 16
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
_LAST_OF_THEM = len(_STREAMS) - 1


# The child's side


class _NotServedError(Exception):
    """Who asks is not served, or has gone."""


def _take_over(asked: dict[str, Any], fds: Sequence[int]) -> None:
    """Become as the process that described itself. fds: as they came, owned from here on. Raises OSError, ValueError.

    A limit that would be above this process's own hard one, or a niceness that takes a privilege, is refused.
    """
    numbers = asked["numbers"]
    beyond = max([_LAST_OF_THEM, *numbers]) + 1
    folder, *others = [_moved_up(fd, beyond) for fd in fds]
    os.fchdir(folder)
    os.close(folder)
    for fd, number in zip(others, numbers, strict=True):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)
    for number in range(len(_STREAMS)):
        if number not in numbers:
            os.close(number)
    for variable in list(os.environb):
        del os.environb[variable]
    os.environb.update(asked["environment"])
    time.tzset()
    with contextlib.suppress(_locale.Error):  # type: ignore[attr-defined]  # as at a process's start
        _locale.setlocale(_locale.LC_CTYPE, "")
    os.umask(asked["umask"])
    for kind, soft in enumerate(asked["limits"]):
        resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))
    os.setpriority(os.PRIO_PROCESS, 0, asked["niceness"])
    if forked.oom_score() != asked["oom_score_adj"]:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"%d" % asked["oom_score_adj"])
    for number, (name, mode), settings in zip(range(len(_STREAMS)), _STREAMS, asked["streams"], strict=True):
        stream = None if settings is None else _stream(number, f"<{name}>", mode, settings)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.argv = list(asked["arguments"])
    for number in asked["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, asked["blocked"])


def _stream(fd: int, name: str, mode: str, settings: tuple[str, str, bool, bool]) -> io.TextIOWrapper:
    """A standard stream as the interpreter makes it. settings: encoding, errors, line by line, unbuffered."""
    encoding, errors, by_line, through = settings
    buffer: Any = open(fd, f"{mode}b", closefd=False)  # noqa: SIM115 - it is never closed
    buffer.raw.name = name
    stream = io.TextIOWrapper(
        buffer, encoding=encoding, errors=errors, newline="\n", line_buffering=by_line, write_through=through
    )
    stream.mode = mode  # type: ignore[misc]
    return stream


def _moved_up(fd: int, beyond: int) -> int:
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, beyond)
    os.close(fd)
    return moved


def _asked(sock: _socket.socket) -> tuple[dict[str, Any], list[int]]:
    """In the child: what a client asks for, and the descriptors that came with it, if the client is served."""
    packets.send(sock, likeness.proof_of(packets.peer(sock)[0]))
    received = packets.receive(sock)
    if received is None:
        raise _NotServedError("who asked has gone")
    said, fds, is_whole = received
    likeness.check_peer(sock, likeness.facts(os.getpid()))
    word = os.environb.get(forked.WORD.encode("ascii"), b"")
    if not word or said != forked.RUN + word or not is_whole:
        raise _NotServedError("who asked cannot look into this process")
    body, *others = fds
    asked: dict[str, Any] = marshal.loads(_content(body))  # noqa: S302 - of who could as well have been this process
    os.close(body)
    if asked["path"] != sys.path[1:]:
        raise _NotServedError("who asked finds its modules elsewhere")
    return asked, others


def _become(
    sock: _socket.socket, asked: dict[str, Any], fds: list[int], is_allowed: Callable[[], bool]
) -> _socket.socket:
    """In the child: become as the client is, and wait until it says go; the socket, which is another one then.

    is_allowed: waits for what the parent has to say to it. Raises OSError, ValueError, _NotServedError.
    """
    if not is_allowed():
        raise _NotServedError("the code has changed")
    sock = packets.from_fd(_moved_up(sock.detach(), max([_LAST_OF_THEM, *asked["numbers"]]) + 1))
    _take_over(asked, fds)
    io_priority = kernel.io_priority(packets.peer(sock)[0])
    if io_priority != kernel.io_priority(0):
        kernel.set_io_priority(io_priority)
    pidfd = os.pidfd_open(os.getpid())
    packets.send(sock, forked.BEGUN, [pidfd])
    os.close(pidfd)
    if packets.receive(sock) is None:
        raise _NotServedError("who asked has gone")
    return sock


def _tell(sock: _socket.socket, owner: int, code: int) -> None:
    """Let the client go, which need not wait for what the kernel does at this process's end. It wrote all it had to."""
    if os.getpid() == owner:
        with contextlib.suppress(OSError):  # the client has gone
            packets.send(sock, ((code & 0xFF) << 8).to_bytes(4, "little"), flags=_socket.MSG_DONTWAIT)


def _content(fd: int) -> bytes:
    parts, place = [], 0
    while part := os.pread(fd, 1 << 20, place):
        parts.append(part)
        place += len(part)
    return b"".join(parts)


def _run(
    sock: _socket.socket, parent: int, command: Callable[[list[str]], int], is_allowed: Callable[[], bool]
) -> NoReturn:
    """In the child, all that it does. is_allowed: see ``_become``."""
    code = _FAILED
    try:
        end_with_parent(parent, signal.SIGKILL)
        try:
            asked, fds = _asked(sock)
        except (_NotServedError, likeness.UnlikeError, OSError) as error:
            _note(f"not served: {error}")
            os._exit(_FAILED)
        try:
            sock = _become(sock, asked, fds, is_allowed)
        except (_NotServedError, OSError, ValueError):
            os._exit(_FAILED)  # in silence: standard error is the client's, who runs the command by itself
        gc.enable()
        owner = os.getpid()
        leaving.told = lambda code: _tell(sock, owner, code)
        try:
            code = code_of(lambda: command(asked["arguments"][1:]))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        leaving.told(code)
    finally:
        os._exit(code & 0xFF)


def _note(text: str) -> None:
    """A line in the log, as long as that is short."""
    with contextlib.suppress(OSError):
        if os.fstat(2).st_size < _LONGEST_LOG:
            os.write(2, os.fsencode(f"{text}\n"))


# The parent


class _Spare:
    """A child that was forked ahead, and waits to be given a client. It has looked at what it needs: with most Pythons
    that copies the pages, which takes as long as the fork.
    """

    def __init__(self, pid: int, channel: _socket.socket) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.channel = channel

    def give(self, sock: _socket.socket) -> bool:
        """Have it get ready to serve a client. False: it has been killed, and somebody else has to."""
        try:
            packets.send(self.channel, b"client", [sock.fileno()])
        except OSError:
            return False
        return True

    def allow(self) -> None:
        """Have it go on: the code that it has is the disk's."""
        with contextlib.suppress(OSError):  # it has been killed, which shows by its pidfd
            packets.send(self.channel, b"current")

    def end(self) -> None:
        """It is needed no more. It would end when its channel does, but not while somebody has it stopped."""
        self.channel.close()
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.close(self.pidfd)
        os.waitpid(self.pid, 0)


def _wait_ahead(channel: _socket.socket, parent: int, command: Callable[[list[str]], int]) -> NoReturn:
    """In the spare, all that it does."""
    try:
        end_with_parent(parent, signal.SIGKILL)
        likeness.facts(os.getpid())
        forked.described(())
        received = packets.receive(channel)
        if received is None:
            os._exit(0)
        _run(packets.from_fd(received[1][0]), parent, command, lambda: _is_allowed(channel))
    finally:
        os._exit(_FAILED)


def _is_allowed(channel: _socket.socket) -> bool:
    received = packets.receive(channel)
    channel.close()
    return received is not None


class _Parent:
    """Forks for each who connects. command: what a child runs with its arguments. idle_s: it ends after so long."""

    def __init__(self, path: str, command: Callable[[list[str]], int], idle_s: float) -> None:
        self._path = path
        self._command = command
        self._idle_s = idle_s
        self._pid = os.getpid()
        self._place = _taken_place(path)
        self._listener: _socket.socket | None = packets.listen(path)
        self._inode = os.stat(path).st_ino
        self._stamp = zygote.Stamp(zygote.imported())
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        self._clients: dict[int, tuple[_socket.socket, int, int]] = {}
        self._ended: dict[int, int] = {}
        self._spare: _Spare | None = None
        self._calm_s = _CALM_S

    def serve(self) -> None:
        last = time.monotonic()
        while self._clients or self._listener:
            is_spare_missing = self._listener is not None and self._spare is None
            events = self._poll.poll(min(self._calm_s if is_spare_missing else _POLL_S, self._idle_s) * 1000)
            if not events and is_spare_missing:
                self._spare = self._prepared()
                self._calm_s = _CALM_S if self._spare else _POLL_S  # too many processes: that may last
                if self._spare is not None:
                    continue
            if events:
                last = time.monotonic()
            for fd, _events in events:
                if self._listener and fd == self._listener.fileno():
                    self._fork(self._listener)
                elif fd in self._ended:
                    self._reap(fd)
                elif fd in self._clients:
                    self._lose(fd)
            is_idle = not self._clients and time.monotonic() - last >= self._idle_s
            if is_idle or (not events and (self._stamp.is_outdated() or _is_memory_short() or self._is_replaced())):
                self._close()

    def _fork(self, listener: _socket.socket) -> None:
        try:
            sock = packets.accept(listener)
        except OSError:
            return
        if packets.peer(sock)[1] != os.geteuid():
            sock.close()
            return
        spare, self._spare = self._spare, None
        if spare is not None:
            if spare.give(sock):  # it looks at the client while this looks at the code
                is_outdated = self._stamp.is_outdated()
                if not is_outdated:
                    spare.allow()
                spare.channel.close()
                self._have(sock, spare.pid, spare.pidfd)
                if is_outdated:
                    self._close()
                return
            spare.end()
        if self._stamp.is_outdated():
            sock.close()
            self._close()
            return
        try:
            pid = os.fork()
        except OSError:  # too many processes: whoever asked may have better luck
            sock.close()
            return
        if pid == 0:
            self._forget()
            _run(sock, self._pid, self._command, lambda: True)
        self._have(sock, pid, os.pidfd_open(pid))

    def _have(self, sock: _socket.socket, pid: int, pidfd: int) -> None:
        """Look after a client, and the child that serves it."""
        self._clients[sock.fileno()] = (sock, pid, pidfd)
        self._ended[pidfd] = sock.fileno()
        self._poll.register(sock, 0)  # its end alone: what it says is the child's to read
        self._poll.register(pidfd, select.POLLIN)

    def _prepared(self) -> _Spare | None:
        """A child that waits ahead. That there is none costs the next client some time."""
        ours, theirs = packets.pair()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            return None
        finally:
            if os.getpid() == self._pid:
                theirs.close()
        if pid == 0:
            ours.close()
            self._forget()
            _wait_ahead(theirs, self._pid, self._command)
        return _Spare(pid, ours)

    def _forget(self) -> None:
        """In the child: close all that is the parent's."""
        if self._listener:
            self._listener.close()
        os.close(self._place)
        for sock, _pid, pidfd in self._clients.values():
            sock.close()
            os.close(pidfd)

    def _lose(self, fd: int) -> None:
        """A client has gone: so does its child."""
        _sock, _pid, pidfd = self._clients[fd]
        self._poll.unregister(fd)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _reap(self, pidfd: int) -> None:
        sock, pid, _pidfd = self._clients.pop(self._ended.pop(pidfd))
        self._poll.unregister(pidfd)
        with contextlib.suppress(KeyError):  # it was lost
            self._poll.unregister(sock)
        os.close(pidfd)
        _pid, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):  # the client has gone
            packets.send(sock, status.to_bytes(4, "little"), flags=_socket.MSG_DONTWAIT)
        sock.close()

    def _is_replaced(self) -> bool:
        try:
            return os.stat(self._path).st_ino != self._inode
        except OSError:
            return True

    def _close(self) -> None:
        """Take no more; what runs goes on."""
        if not self._listener:
            return
        self._poll.unregister(self._listener)
        if not self._is_replaced():
            os.unlink(self._path)
        self._listener.close()
        self._listener = None
        if self._spare is not None:
            self._spare.end()
            self._spare = None


def _taken_place(path: str) -> int:
    """A lock of those that a directory has, held as long as it is open; afterwards nobody listens at ``path``.

    Raises ZygoteError when all are taken, or another process forks at ``path``.
    """
    directory = os.path.dirname(path)
    door = os.open(f"{directory}/door", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else another one starts at this moment: that is enough
        for number in range(PLACES):
            place = os.open(f"{directory}/place-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(place)
                continue
            if _is_answered(path):
                os.close(place)
                raise zygote.ZygoteError(f"another process forks at {path}")
            if os.path.lexists(path):
                os.unlink(path)  # of one that was killed
            return place
        raise zygote.ZygoteError(f"{PLACES} processes fork for this user already")
    except BlockingIOError as error:
        raise zygote.ZygoteError("another process starts to fork") from error
    finally:
        os.close(door)


def _is_answered(path: str) -> bool:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    try:
        sock.settimeout(0)
        sock.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:
        return True  # it is busy
    finally:
        sock.close()
    return True


def _is_memory_short() -> bool:
    """Whether processes have waited for memory for a tenth of the last ten seconds.  PSI"""
    try:
        with open("/proc/pressure/memory", encoding="ascii") as file:
            return float(file.readline().split()[1].partition("=")[2]) > _PRESSED_PERCENT
    except OSError:
        return False  # this kernel does not tell


def serve(path: str, command: Callable[[list[str]], int], idle_s: float, ready: Callable[[], None]) -> None:
    """Be the parent, to its end. Everything that a command may need is imported by now, and no thread was started.

    path: of the socket, in a directory that is this user's alone. command: takes arguments, returns an exit code.
    """
    threads = os.listdir("/proc/self/task")
    if len(threads) != 1:
        raise zygote.ZygoteError(f"a process with {len(threads)} threads cannot fork")
    parent = _Parent(path, command, idle_s)
    for kind in range(forked.LIMITS):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (0 if kind == resource.RLIMIT_CORE else hard, hard))
    with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(b"%d" % _FIRST_TO_GO)
    zygote.freeze()
    ready()
    parent.serve()
