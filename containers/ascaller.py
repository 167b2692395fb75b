"""Binds of somebody who is not root: what they lead to, and whose files are there.

The way to a bind's source is gone as the caller, with that user's own rights, and what is found is mounted by its
descriptor. So it reaches nothing that the caller could not, whoever changes links on the way meanwhile.

In the mount, the user that the container's command is has the caller's own ID on disk. The container's other users have
the caller's subordinate IDs, as without root: user N has the Nth. Root, where it is not the command's user, has the one
behind them. All other owners are nobody's inside, so no right of the container's root counts for their files.
"""

from __future__ import annotations

import _socket
import errno
import os

from containers import idmap, syscalls, wire
from containers.errors import MountError
from containers.events import readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_PATIENCE_S = 10.0
_children: list[int] = []
"""Those that look, and those that were killed over it and have not ended yet."""

_RESOLVE_NO_MAGICLINKS = 0x02  # /proc/self/fd/N is this process's, not the caller's
_RESOLVE_BENEATH = 0x08


def opened(source: str, subpath: str, caller: dict[str, Any]) -> int:
    """A descriptor (O_PATH) of a bind's source, found with the caller's rights. For root with one thread only.

    A child goes: on the way may be a file system of the caller's own (FUSE), which need not answer, ever.
    subpath: of it, or empty; it leads nowhere else. caller: ``uid``, ``gid``, ``groups``. Raises OSError.
    """
    return _done(caller, lambda: _found(source, subpath))


def connected(path: str, caller: dict[str, Any]) -> int:
    """A descriptor of a connection to a unix socket, by which the caller is known: SO_PEERCRED. Raises OSError.

    Otherwise as ``opened``.
    """

    def connect() -> int:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
        sock.connect(path)
        return sock.detach()

    return _done(caller, connect)


def _done(caller: dict[str, Any], find: Callable[[], int]) -> int:
    """The descriptor that a child has found with the caller's rights. Raises OSError."""
    _reap()
    ours, theirs = wire.socket_pair()
    try:
        pid = syscalls.clone3(0)
        if pid == 0:
            _look(theirs, find, caller)
        _children.append(pid)
        theirs.close()
        if not readable(ours.fileno(), _PATIENCE_S):
            os.kill(pid, syscalls.SIGKILL)  # it may not even end by that, before the file system does
            raise TimeoutError(errno.ETIMEDOUT, f"its file system has not answered for {_PATIENCE_S:.0f} s")
        answer = wire.receive(ours)
        if answer is None:
            raise OSError(errno.EIO, "the process that looked for it was killed")
        number, fds = answer
        if number:
            raise OSError(number, os.strerror(number))
        return fds[0]
    finally:
        ours.close()
        theirs.close()
        _reap()


def _look(channel: _socket.socket, find: Callable[[], int], caller: dict[str, Any]) -> NoReturn:
    """In a child: tell what is found. Its real user stays root, so that it is none of the caller's processes."""
    try:
        syscalls.close_all_but({0, 1, 2, channel.fileno()})
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, syscalls.SIGKILL)
        os.setgroups(caller["groups"])
        os.setegid(caller["gid"])
        os.seteuid(caller["uid"])  # this takes the capabilities, too
        wire.send(channel, 0, [find()])
    except OSError as error:
        wire.send(channel, error.errno or errno.EIO)
    finally:
        os._exit(0)


def _reap() -> None:
    """Let go of the children that have ended."""
    for pid in list(_children):
        if os.waitpid(pid, os.WNOHANG)[0]:
            _children.remove(pid)


def _found(source: str, subpath: str) -> int:
    fd = syscalls.openat2(syscalls.AT_FDCWD, source, os.O_PATH, resolve=_RESOLVE_NO_MAGICLINKS)
    if not subpath:
        return fd
    try:
        return syscalls.openat2(fd, subpath, os.O_PATH, resolve=_RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(fd)


def owners(ranges: tuple[int, int], caller: dict[str, Any]) -> int:
    """A descriptor of the user namespace that says whose files are whose. Raises MountError, NamespaceError.

    ranges: the container's first host user and group ID. caller: beside ``uid`` and ``gid``, ``inside``: the IDs of the
    command's user and group in the container; ``subordinate``: the first ones, or None.
    """
    if not any(ranges):
        raise MountError("binds of another user need the host's root", hint="run Shiplap outside of a user namespace")
    own = (caller["uid"], caller["gid"])
    firsts = caller["subordinate"] or (None, None)
    lines = [lines_of(*each) for each in zip(ranges, own, caller["inside"], firsts, strict=True)]
    return idmap.namespace_of((lines[0], lines[1]))


def lines_of(start: int, own: int, inside: int, subordinate: int | None) -> bytes:
    """The map of one kind of ID, from those on disk to the container's. Raises MountError when IDs would be two's."""
    runs = [(own, inside, 1)]
    if subordinate is not None:
        if subordinate <= own < subordinate + idmap.SIZE:
            raise MountError(f"the ID {own} is one of its own subordinate IDs", hint="see /etc/subuid and /etc/subgid")
        runs += [(subordinate, 1, inside - 1), (subordinate + inside, inside + 1, idmap.SIZE - 1 - inside)]
        if inside:
            runs.append((subordinate + idmap.SIZE - 1, 0, 1))
    return b"".join(b"%d %d %d\n" % (on_disk, start + number, count) for on_disk, number, count in runs if count > 0)
