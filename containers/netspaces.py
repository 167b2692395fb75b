"""Network namespaces: work done inside one by a process that lives in another."""

from __future__ import annotations

import os

from containers import syscalls, wire
from containers.errors import NetworkError
from core import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def inside(netns: int | None, work: Callable[[], list[int]]) -> list[int]:
    """Do ``work`` in a network namespace, None: in a new one; the descriptors that it opened there are this process's.

    The host's root goes there and back, with this thread alone. A root of a user namespace only could not come back
    into the host's network namespace, so a child goes: call it from a process with one thread then. Raises OSError,
    NetworkError.
    """
    if not namespaces.is_initial():
        return _by_child(netns, work)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(netns)
        try:
            return work()
        finally:
            syscalls.setns(own, syscalls.CLONE_NEWNET)
    finally:
        os.close(own)


def _enter(netns: int | None) -> None:
    if netns is None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
    else:
        syscalls.setns(netns, syscalls.CLONE_NEWNET)


def _by_child(netns: int | None, work: Callable[[], list[int]]) -> list[int]:
    ours, theirs = wire.socket_pair()
    pid = os.fork()
    if pid == 0:
        try:
            _enter(netns)
            wire.send(theirs, None, work())
        except NetworkError as error:
            wire.send(theirs, (error.message, error.hint))
        except OSError as error:
            wire.send(theirs, (error.errno, str(error)))
        finally:
            os._exit(0)
    theirs.close()
    answer = wire.receive(ours)
    ours.close()
    os.waitpid(pid, 0)
    if answer is None:
        raise OSError(0, "the process that went into a network namespace was killed")
    failure, fds = answer
    if failure is None:
        return fds
    if isinstance(failure[0], str):
        raise NetworkError(failure[0], hint=failure[1])
    raise OSError(*failure)


def write_sysctls(*settings: tuple[str, str]) -> None:
    """Set ``net.`` values of this thread's network namespace; names with slashes, from /proc/sys/net on.

    One that the kernel does not have is left out: what it would switch off is not there either.
    """
    for name, value in settings:
        try:
            fd = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)


def read_sysctl(name: str) -> str:
    """A ``net.`` value of this thread's network namespace, named as for ``write_sysctls``; "" where there is none."""
    try:
        with open(f"/proc/sys/net/{name}", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""
