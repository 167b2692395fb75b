"""The child's side of ``core.forking``: a fork that becomes as its client is, and runs the client's command."""

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
import signal
import sys
import time

from core import forked, kernel, leaving, likeness, packets
from core.leaving import code_of
from core.processes import end_with_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

_FAILED = 125
_LONGEST_LOG = 1 << 16
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
_LAST_OF_THEM = len(_STREAMS) - 1


class _NotServedError(Exception):
    """Who asks is not served, or has gone."""


def run(
    sock: _socket.socket, parent: int, command: Callable[[list[str]], int], is_allowed: Callable[[], bool]
) -> NoReturn:
    """Serve a client: all that a child does. is_allowed: see ``_become``."""
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


def wait_ahead(channel: _socket.socket, parent: int, command: Callable[[list[str]], int]) -> NoReturn:
    """Get ready, and serve whom the parent hands over: all that a child does that was forked ahead."""
    try:
        end_with_parent(parent, signal.SIGKILL)
        likeness.facts(os.getpid())
        forked.described(())
        received = packets.receive(channel)
        if received is None:
            os._exit(0)
        run(packets.from_fd(received[1][0]), parent, command, lambda: _is_allowed(channel))
    finally:
        os._exit(_FAILED)


def _is_allowed(channel: _socket.socket) -> bool:
    received = packets.receive(channel)
    channel.close()
    return received is not None


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
    """What a client asks for, and the descriptors that came with it, if the client is served."""
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
    """Become as the client is, and wait until it says go; the socket, which is another one then.

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


def _note(text: str) -> None:
    """A line in the log, as long as that is short."""
    with contextlib.suppress(OSError):
        if os.fstat(2).st_size < _LONGEST_LOG:
            os.write(2, os.fsencode(f"{text}\n"))
