"""From a process in a container's namespaces to the command: terminal, user, capabilities, filter, execve.

A container's first process does this at the end of its set-up, and so does one that joined a container (exec). Whoever
calls it is in the container's root filesystem, which may be hostile: nothing is imported any more, and what is opened
is looked at before it is believed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
import struct
import termios

from containers import capabilities, init, syscalls, users, wire
from containers.errors import ContainerError, LimitError, MountError, NamespaceError, PlaceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any, NoReturn

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_OF_THE_FILES = (
    errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR,
)  # fmt: skip
_OF_THE_MACHINE = (errno.EAGAIN, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of the machine: for these a program is not executed although it could be."""

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441
_PTMX = os.makedev(5, 2)


class CommandError(Exception):
    """The command cannot be executed. code: docker's exit code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def open_terminal(size: tuple[int, int]) -> tuple[int, int]:
    """A pseudo-terminal of the container's own devpts: its two ends, master and slave. size: rows and columns.

    Raises NamespaceError where the container has put something else in its place.
    """
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(master)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _PTMX:
        os.close(master)
        raise NamespaceError("the container has put something else in the place of its /dev/pts/ptmx")
    os.set_blocking(master, True)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("=i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("=HHHH", *size, 0, 0))
    return master, slave


def refusal(error: OSError, message: str, hint: str | None = None) -> MountError:
    """The error for a place that cannot be had: it is the fault of the files there, or the machine's."""
    return (PlaceError if error.errno in _OF_THE_FILES else MountError)(message, hint=hint)


def execute(channel: _socket.socket, spec: Any, stdio: list[int], call_filter: bytes | None) -> NoReturn:
    """Become the command of ``spec`` (as ``spec.to_wire`` makes it), after the word ``executing`` on the channel.

    Raises ContainerError, CommandError, OSError.
    """
    env = dict(spec["env"])
    user = users.resolve(spec["user"], _lines("/etc/passwd"), _lines("/etc/group"), spec["extras"].get("groups") or ())
    env.setdefault("PATH", DEFAULT_PATH)
    env.setdefault("HOME", user.home)
    for target, fd in enumerate(stdio):
        os.dup2(fd, target)
    for fd in range(3):
        _own_pipe(fd, user)
    syscalls.close_all_but({0, 1, 2, channel.fileno()})
    if spec["init"]:
        init.stay_behind(channel)
    elif spec["reaper"]:
        init.stay_beside(channel)
    os.setsid()
    if spec["terminal"]:
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)
        os.fchown(1, user.uid, -1)
        env.setdefault("TERM", "xterm")
    os.umask(0o022)
    _enter_directory(spec["cwd"], make=spec.get("make_cwd", True))
    _set_ulimits(spec["ulimits"])
    syscalls.keyctl_join_session_keyring()
    if call_filter is not None:  # before privileges go: without no_new_privs it takes CAP_SYS_ADMIN to load one
        syscalls.set_seccomp_filter(call_filter, spec["extras"].get("call_flags") or 0)
    _become(user, capabilities.mask(spec["capabilities"]))
    if spec["no_new_privileges"]:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, syscalls.SIGKILL)
    for number in range(1, 32):  # Python ignores SIGPIPE and SIGXFSZ, which would last beyond execve
        if number not in (syscalls.SIGKILL, syscalls.SIGSTOP):
            syscalls.signal_default(number)
    limited = any(name == "nproc" for name, _soft, _hard in spec["ulimits"])  # then it is the one who asked for it
    wire.send(channel, ("executing",))
    _exec(list(spec["args"]), env, () if limited else _OF_THE_MACHINE)


def _lines(path: str) -> list[str]:
    """The lines of a file of the container's; none where it is no plain file, which might never end, or never begin."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return []
    return users.lines_of(fd)


def _own_pipe(fd: int, user: users.User) -> None:
    """Let the user reopen a pipe by /dev/stdout and the like; the launcher has already given it to our root."""
    try:
        if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
            os.fchown(fd, user.uid, user.gid)
    except OSError:
        return  # a pipe of somebody else's, or no /proc: usable as it is, only not by name


def _enter_directory(path: str, *, make: bool) -> None:
    try:
        if make:
            os.makedirs(path, 0o755, exist_ok=True)
        os.chdir(path)
        os.getcwd()  # fails when the directory is not below the root (CVE-2024-21626)
    except OSError as error:
        raise refusal(error, f"cannot use {path} as working directory: {error.strerror}") from error


def _set_ulimits(wanted: list[tuple[str, int, int]]) -> None:
    for name, soft, hard in wanted:
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard))
        except (ValueError, OSError) as error:
            own = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
            raise LimitError(
                f"cannot set the limit {name} to {soft}:{hard}: {error}", hint=f"this host allows {own} at most"
            ) from error


def _become(user: users.User, allowed: int) -> None:
    """Drop to the user and the capabilities. no_new_privs is off as in docker, so that set-user-ID programs work."""
    for number in range(64):
        if not allowed >> number & 1:
            try:
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break  # beyond the last one that this kernel knows
    os.setgroups(sorted({user.gid, *user.groups}))  # with its own, as containerd does
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    if user.uid == 0:
        syscalls.capset(effective=allowed, permitted=allowed, inheritable=0)


def _exec(args: list[str], env: dict[str, str], unable: tuple[int, ...]) -> NoReturn:
    """Execute args[0], searched in PATH as docker does. Raises CommandError, and ContainerError (``unable``).

    unable: numbers of errors that say nothing about the command.
    """
    name = args[0]
    if "/" in name:
        candidates = [name]
    else:
        candidates = [f"{folder or '.'}/{name}" for folder in env["PATH"].split(":")] if name else []
    refused: OSError | None = None
    for path in candidates:
        try:
            os.execve(path, args, env)  # noqa: S606 - without a shell is the point
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.path.lexists(path) and not os.path.isdir(path):
                refused = refused or error
        except OSError as error:
            if error.errno in unable:
                raise ContainerError(f"cannot execute {name}: {error.strerror}") from error
            refused = error
            if error.errno != errno.EACCES:
                break
    if refused is None:
        why = f"stat {name}: no such file or directory" if "/" in name else "executable file not found in $PATH"
        raise CommandError(_NOT_FOUND, f'exec: "{name}": {why}')
    if refused.errno == errno.ENOENT:
        raise CommandError(_NOT_FOUND, f"exec {name}: no such file or directory (its interpreter or loader is missing)")
    why = "is a directory" if os.path.isdir(refused.filename) else os.strerror(refused.errno or 0).lower()
    raise CommandError(_NOT_EXECUTABLE, f'exec: "{name}": {why}')
