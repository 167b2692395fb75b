"""Binds of somebody who is not root: what they lead to, and whose files are there.

The way to a bind's source is gone as the caller, with that user's own rights, and what is found is mounted by its
descriptor. So it reaches nothing that the caller could not, whoever changes links on the way meanwhile.

In the mount, the user that the container's command is has the caller's own ID on disk. The container's other users have
the caller's subordinate IDs, as without root: user N has the Nth. Root, where it is not the command's user, has the one
behind them. All other owners are nobody's inside, so no right of the container's root counts for their files.
"""

from __future__ import annotations

import os

from containers import idmap, syscalls
from containers.errors import MountError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RESOLVE_NO_MAGICLINKS = 0x02  # /proc/self/fd/N is this process's, not the caller's
_RESOLVE_BENEATH = 0x08


def opened(source: str, subpath: str, caller: dict[str, Any]) -> int:
    """A descriptor (O_PATH) of a bind's source, found with the caller's rights. For root with one thread only.

    subpath: of it, or empty; it leads nowhere else. caller: ``uid``, ``gid``, ``groups``. Raises OSError.
    """
    groups = os.getgroups()
    os.setgroups(caller["groups"])
    try:
        os.setegid(caller["gid"])
        try:
            os.seteuid(caller["uid"])  # this takes the capabilities, too
            return _found(source, subpath)
        finally:
            os.seteuid(0)
            os.setegid(0)
    finally:
        os.setgroups(groups)


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
