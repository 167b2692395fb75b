"""A container beside another one: in its user and network namespaces, within its limits, and ended with it.

A job's own engine is one: it publishes ports where the job finds them, and knows owners as the job does, while nobody
in the job sees its processes or its files.
"""

from __future__ import annotations

import os

from containers import extras, syscalls, wire
from containers.cgroups import remove_tree
from containers.errors import ContainerError, MountError, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from containers.birth import Births
    from containers.cgroups import Session
    from containers.guest import Guest

_JOINED = ("user", "net")
_CLEAR_S = 0.1  # the kernel is quick: nothing is in them. What is left is removed when the launcher ends


def forked(births: Births, session: Session, main: Guest, number: int) -> Guest:
    """A first process beside ``main``, in the same group of limits. Raises ContainerError, OSError.

    number: the how manieth of this process's containers it is.
    """
    group = os.path.dirname(main.name)
    if not group:
        raise ContainerError("this container is in no group whose limits hold others, too")
    if not main.executing:
        raise StateError("the container does not run")
    name = f"{group}/{number}"
    opened: dict[str, int] = {}
    try:
        try:
            for kind in _JOINED:
                opened[kind] = os.open(f"/proc/{main.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise StateError("the container has ended") from error
        groups = session.create(name)
        try:
            guest = births.fork_beside(name, main.network, groups, opened)
        except BaseException:
            session.remove(name)
            raise
    finally:
        for fd in opened.values():
            os.close(fd)
    guest.beside = main
    guest.connected = main.connected
    main.companions.append(guest)
    return guest


def show_root(main: Guest, spec: Any) -> list[int]:
    """Put the root of ``main``, as it is now, into a spec's mounts (``spec.OthersRoot``).

    Returns descriptors, which the caller closes when the container has its order. Raises MountError, OSError.
    """
    wanted = [number for number, mount in enumerate(spec["mounts"]) if mount[0] == "root"]
    shown = [_root_of(main.pid) for _ in wanted[:1]]
    for number in wanted:
        spec["mounts"][number] = ("given", spec["mounts"][number][1], shown[0])
    return shown


def delegate(session: Session, guest: Guest, owner: tuple[int, int]) -> None:
    """Let it divide its own control groups further, which stay below those that bound it. Raises OSError.

    owner: the host's IDs of its root; (0, 0) where they are this process's own.
    """
    if any(owner):
        extras.delegate(session.groups(guest.name), owner)


def clear(session: Session, guest: Guest) -> None:
    """It has ended, and all its processes with it: remove the control groups that it made below its own."""
    for _hierarchy, path in session.groups(guest.name):
        remove_tree(path, timeout_s=_CLEAR_S)


def _root_of(pid: int) -> int:
    """A descriptor of a detached copy of all that a process sees mounted."""
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    ours, theirs = wire.socket_pair()
    try:
        child = os.fork()
        if child == 0:
            _send_root(theirs, namespace)
        theirs.close()
        received = wire.receive(ours)
        os.waitpid(child, 0)
    finally:
        os.close(namespace)
        ours.close()
    if received is None or not received[1]:
        what = "" if received is None else f": {os.strerror(received[0])}"
        raise MountError(f"cannot show the container's root to another one{what}")
    return received[1][0]


def _send_root(channel: Any, namespace: int) -> None:
    """In a child: go where the mounts are, copy them, and hand them over."""
    try:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        syscalls.setns(namespace, syscalls.CLONE_NEWNS)
        flags = syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE
        wire.send(channel, 0, [syscalls.open_tree(syscalls.AT_FDCWD, "/", flags)])
    except OSError as error:
        wire.send(channel, error.errno)
    finally:
        os._exit(0)
