"""A command that runs in a fork of a process that has imported it already: the client's side of ``core.forking``.

Signals go to the fork; its status, or the signal that ended it, becomes this process's own. The command runs once: the
fork begins when it was told to, and who could not tell it so runs the command by itself.
(Each command starts with this: only what is cheap.)
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what ``signal`` wraps
import _socket
import marshal
import os
import sys

from core import likeness, packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

RUN, BEGUN, GO = b"run", b"begun", b"go"
WORD = "FORKING_WORD"
"""The variable in the environment of a process that forks, whose value proves that the client can look into it."""

_PATIENCE_S = 5.0
LIMITS = 16
"""Kinds of limits, by number: RLIM_NLIMITS of asm-generic/resource.h."""
_KEPT = ("ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "SEGV", "PIPE", "CHLD", "STOP", "TTIN", "TTOU", "SYS")
_KEPT_NUMBERS = {getattr(_signal, f"SIG{name}") for name in _KEPT} | {32, 33}  # the C library has two for itself
PASSED_ON = [number for number in range(1, _signal.NSIG) if number not in _KEPT_NUMBERS]


class Forked:
    """A command that began in a fork. pidfd: of its process. mask: the signals that this process had blocked before."""

    def __init__(self, sock: _socket.socket, pidfd: int, mask: Any) -> None:
        self._sock = sock
        self._pidfd = pidfd
        self._mask = mask

    def stay(self) -> int:
        """Pass signals on until it has ended; its exit code. When a signal ended it, that ends this process, too."""
        for number in PASSED_ON:
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, self._stop if number == _signal.SIGTSTP else self._pass_on)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._mask)
        try:
            received = packets.receive(self._sock)
        except ConnectionResetError:
            received = None
        if received is None:  # who forked it has gone
            self._end()
            os.write(2, b"error: the process that ran this command was killed, and the command with it\n")
            die_of(_signal.SIGKILL)
        status = int.from_bytes(received[0], "little")
        if os.WIFSIGNALED(status):
            die_of(os.WTERMSIG(status))
        return os.WEXITSTATUS(status)

    def _pass_on(self, number: int, frame: object) -> None:
        del frame
        try:
            _signal.pidfd_send_signal(self._pidfd, number)
        except OSError:
            return  # it has ended; what became of it is on its way

    def _stop(self, number: int, frame: object) -> None:
        """Ctrl-Z: the fork is in no job of the shell's. It is stopped by hand, and goes on when this process does.

        In an orphaned process group the kernel stops nobody, and both go on at once.
        """
        self._pass_on(_signal.SIGSTOP, frame)
        _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)  # this process stands here until SIGCONT
        _signal.signal(number, self._stop)
        self._pass_on(_signal.SIGCONT, frame)

    def _end(self) -> None:
        self._pass_on(_signal.SIGKILL, None)
        import select

        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.poll()


def ask(path: str, arguments: Sequence[str], own: dict[str, bytes]) -> Forked | None:
    """Have a command run by the process that forks at ``path``, as this one would run it; None when it did not begin.

    own: this process's facts.
    Raises OSError when nobody forks there or something cannot be read, UnlikeError when that is no process to ask.
    """
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    body, proof = likeness.new_proof()
    opened = [body]
    mask = None
    forked = None
    try:
        sock.settimeout(_PATIENCE_S)
        sock.connect(path)
        word = likeness.word_of(likeness.check_peer(sock, own), WORD)
        asked, numbers = described(arguments)
        if len(numbers) + 2 > packets.MAX_FDS:
            return None
        data = marshal.dumps(asked)
        while data:
            data = data[os.write(body, data) :]
        opened.append(folder := os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        hello = packets.receive(sock)
        if hello is None:
            return None
        opened += hello[1]
        if hello[0] != proof:
            raise likeness.UnlikeError("it cannot look into this process")
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, PASSED_ON)  # what comes from here on is for the fork
        packets.send(sock, RUN + word, [body, folder, *numbers])
        received = packets.receive(sock)
        if received is None:
            return None
        opened += received[1]
        if received[0] != BEGUN or len(received[1]) != 1:
            return None
        sock.settimeout(None)
        packets.send(sock, GO)
        forked = Forked(sock, opened.pop(), mask)
        return forked
    finally:
        for fd in opened:
            os.close(fd)
        if forked is None:
            sock.close()
            if mask is not None:
                _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def described(arguments: Sequence[str]) -> tuple[dict[str, Any], list[int]]:
    """What a fork has to take over of this process, for ``marshal``; and the descriptors that execve would pass on."""
    import resource

    numbers = [fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_passed_on(fd)]
    umask = os.umask(0)
    os.umask(umask)
    handlers = {number: _signal.getsignal(number) for number in range(1, _signal.NSIG) if number not in (32, 33)}
    asked = {
        "arguments": list(arguments),
        "environment": list(os.environb.items()),
        "umask": umask,
        "limits": [resource.getrlimit(kind)[0] for kind in range(LIMITS)],
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score_adj": oom_score(),
        "ignored": [number for number, handler in handlers.items() if handler == _signal.SIG_IGN],
        "blocked": [int(number) for number in _signal.pthread_sigmask(_signal.SIG_BLOCK, ())],
        "numbers": numbers,
        "path": sys.path[1:],  # the first is where the script is
        "streams": [_settings_of(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
    }
    return asked, numbers


def _settings_of(stream: Any) -> tuple[str, str, bool, bool] | None:
    return stream and (stream.encoding, stream.errors, stream.line_buffering, stream.write_through)


def oom_score() -> int:
    """This process's ``oom_score_adj``."""
    with open("/proc/self/oom_score_adj", "rb", buffering=0) as file:
        return int(file.read())


def die_of(number: int) -> NoReturn:
    """End as a process that a signal ended, without a core."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (_signal.SIGKILL, _signal.SIGSTOP):
        _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _is_passed_on(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # that of the listing
