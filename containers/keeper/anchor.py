"""The anchor: a process that keeps the namespaces of an engine without root, where its commands and keepers meet.

Without root, who is root of a user namespace is so in that one only: two commands that made one each could not enter
what the other made. So the first that starts something has a process made that holds a user and a mount namespace,
sleeps, and costs nothing. The others join it. What is pinned by a mount, as the switch is, is seen by all of them; the
host sees none of it. Its network namespace is the host's.

    RUN/anchor      the anchor has a record lock on it. The kernel says whose, so no number on a disk is believed
    RUN/anchor.log  why the last one did not come

It stays until the user's last process is ended, as at the end of a session that does not linger, or at a shutdown. When
it is killed, the nursery's namespaces are joined, and another one is made there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from containers import syscalls
from containers.delegation import scope
from containers.errors import KeeperError, NamespaceError
from containers.keeper import protocol
from containers.rootless import become_root, remember_home
from core import packets, zygote
from core.files import lock_within
from core.namespaces import is_initial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STARTING_S = 60.0
"""How long another process may take to start what is missing."""

_FLOCK = struct.Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid
_BOTH = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS
_SLEEP = ["sleep", "infinity"]
_PATH = "/usr/local/bin:/usr/bin:/bin"


def join(run: str) -> bool:
    """Be root in the namespaces of the engine whose run-time directory is ``run``; whether there were any.

    Nothing is to be done for root. Only for a process with one thread. Raises NamespaceError.
    """
    if os.geteuid() == 0:
        return True
    for holder in (_holder, _nursery):
        pidfd = _opened(run, holder)
        if pidfd >= 0:
            try:
                _enter(pidfd)
            finally:
                os.close(pidfd)
            return True
    return False


def enter(run: str) -> None:
    """The same, and the namespaces are made if there are none. ``run`` has to be there.

    Raises NamespaceError, OSError.
    """
    if os.geteuid() == 0:
        return
    lock = os.open(f"{run}/anchor.making", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not lock_within(lock, STARTING_S):  # for as long as another one starts it
            raise NamespaceError(
                f"another process has held {run}/anchor.making for over {STARTING_S:.0f} s",
                hint="look for a stopped shiplap process (fuser -v on that file) and end it",
            )
        is_there = bool(_holder(run))
        if join(run):
            if not is_there:  # the nursery's: they are an anchor's again from here on
                zygote.start(__name__, [run, "here"], f"{run}/anchor.log")
        else:
            _start(run)
            if not join(run):
                raise NamespaceError("the process that keeps this user's namespaces ended at once")
    finally:
        os.close(lock)


def end(run: str) -> None:
    """End the anchor of an engine that is no more, if it has one. Raises OSError."""
    pidfd = _opened(run, _holder)
    if pidfd >= 0:
        try:
            syscalls.pidfd_send_signal(pidfd, syscalls.SIGKILL)
        except ProcessLookupError:
            pass  # it has just ended
        finally:
            os.close(pidfd)


def seal(program: str) -> None:
    """Have a program be read-only in these namespaces, where it is the user's own, who is every container's root.

    A container can run it by the name of /proc/self/exe, and then open it to write (CVE-2019-5736). What is executed
    from here on is safe. Raises OSError.
    """
    if os.access(program, os.W_OK):
        syscalls.mount(program, program, None, syscalls.MS_BIND)
        syscalls.mount_setattr(syscalls.AT_FDCWD, program, 0, attributes=syscalls.MOUNT_ATTR_RDONLY)


def start_in_scope(module: str, arguments: Sequence[str], log: str) -> None:
    """As ``zygote.start``, in a scope of its own where systemd gives one.

    A user's manager may refuse: then there are no limits, which is said to who asks for one, and all else works.
    """
    around = scope()
    try:
        zygote.start(module, arguments, log, around=around)
    except zygote.ZygoteError:
        if not around or (os.geteuid() == 0 and is_initial()):
            raise
        zygote.start(module, arguments, log)


def main(arguments: Sequence[str], ready: Callable[[], None]) -> None:
    """The anchor's whole life. arguments: RUN; and ``here`` for the namespaces that it is started in."""
    run, *here = arguments
    if not here:
        become_root()
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    lock = os.open(f"{run}/anchor", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.lockf(lock, fcntl.LOCK_EX)
    os.set_inheritable(lock, True)
    ready()
    os.execvpe(_SLEEP[0], _SLEEP, {"PATH": _PATH})  # noqa: S606 - no shell. It keeps the lock


def _start(run: str) -> None:
    try:
        start_in_scope(__name__, [run], f"{run}/anchor.log")
    except zygote.ZygoteError as error:
        become_root()  # which tells why not, with what helps
        raise NamespaceError(f"the process that keeps this user's namespaces did not start: {error}") from error


def _opened(run: str, holder: Callable[[str], int]) -> int:
    """A descriptor of the process that ``holder`` finds; -1 when there is none."""
    pid = holder(run)
    if not pid:
        return -1
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    if holder(run) == pid:  # so the number was its own when it was opened
        return pidfd
    os.close(pidfd)
    return -1


def _holder(run: str) -> int:
    """The process that has the lock; 0 when there is none."""
    try:
        fd = os.open(f"{run}/anchor", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(fd)
    kind, _whence, _start, _length, pid = _FLOCK.unpack(answer)
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def _nursery(run: str) -> int:
    """The nursery that is there; 0 when there is none."""
    try:
        with protocol.connect(f"{run}/nursery.sock", 1.0) as nursery:
            return packets.peer(nursery.socket)[0]
    except (KeeperError, TimeoutError):
        return 0


def _enter(pidfd: int) -> None:
    """Be root where a process is. The working directory stays what its name says."""
    try:
        place = os.getcwd()
    except FileNotFoundError:  # somebody has removed it
        place = "/"
    remember_home(os.geteuid())
    try:
        syscalls.setns(pidfd, _BOTH)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL, errno.ESRCH):
            raise
        raise NamespaceError(f"cannot join this user's namespaces: {error.strerror}") from error
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    try:
        os.chdir(place)
    except OSError as error:
        raise NamespaceError(
            f"{place} is not seen where this user's containers are: {error.strerror}",
            hint="it was mounted later, and mounts of this host are not passed on: mount --make-rshared /, then end "
            "the process that /proc/locks names for RUN/anchor",
        ) from error
