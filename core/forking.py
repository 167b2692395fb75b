"""A process that forks a command for each who asks, if it could have been them: what it forks is as they are.

    client (``core.forked``)            parent                      child (``core.forks``), forked ahead as a rule
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

import _socket
import contextlib
import fcntl
import os
import resource
import select
import signal
import time

from core import forked, forks, packets, zygote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PLACES = 4
"""How many such processes may have their sockets in one directory."""

_POLL_S = 10.0
_CALM_S = 0.03  # after a client: what it asked for comes first
_PRESSED_PERCENT = 10.0
_FIRST_TO_GO = 1000


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
            forks.run(sock, self._pid, self._command, lambda: True)
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
            forks.wait_ahead(theirs, self._pid, self._command)
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
