"""What a keeper's container may have beyond a build step's: sysctls, open system trees, privileges, devices, groups.

All is data in the spec's member ``extras``, a dictionary that is empty for who asked for nothing:

    sysctls      pairs of a name and a value
    open_paths   nothing in /proc and /sys is masked, or read-only
    privileged   as ``open_paths``; /sys and a control group hierarchy of its own can be written, too
    domainname   of the UTS namespace
    groups       further groups of the user, by name or number
    oom_score    its oom_score_adj
    call_filter  a filter of system calls in place of ours, as BPF
    call_flags   what that is loaded with, as seccomp(2) has it
    no_shm       there is no /dev/shm
    marks        empty files that are there unless the root has them
"""

from __future__ import annotations

import os

from containers import mounts, syscalls
from containers.errors import LimitError, MountError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from containers.hierarchies import Hierarchy

DOCKERS_MARKS: Final = ("/.dockerenv",)
"""What docker's containers have, and by which programs know that they are in one."""

_OURS_V2: Final = ("", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control")
"""Of a control group, what belongs to who it was delegated to. cgroup-v2.rst, "Model of Delegation"."""


def apply(extras: dict[str, Any]) -> None:
    """In a container's first process, with the host's file system still in sight: do what is for its namespaces.

    The working directory holds the trees ``proc`` and ``sys``. Raises ContainerError.
    """
    if extras.get("domainname"):
        syscalls.setdomainname(extras["domainname"])
    for name, value in extras.get("sysctls") or ():
        _set_sysctl(name, value)
    if extras.get("open_paths") or extras.get("privileged"):
        try:
            mounts.open_system_trees(writable_sys=bool(extras.get("privileged")))
        except OSError as error:
            raise MountError(f"cannot open /proc and /sys of the container: {error.strerror}") from error


def sysctl_path(name: str) -> str:
    """Where a sysctl is, below /proc/sys. Slashes in a name are its separators, as sysctl(8) has it."""
    return name if "/" in name else name.replace(".", "/")


def _set_sysctl(name: str, value: str) -> None:
    """By the keeper's /proc: what it shows of a namespace is of whoever opens it."""
    try:
        fd = os.open(f"/proc/sys/{sysctl_path(name)}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, os.fsencode(value))
        finally:
            os.close(fd)
    except OSError as error:
        raise LimitError(f"cannot set the sysctl {name} to {value}: {error.strerror}") from error


def delegate(groups: list[tuple[Hierarchy, str]], owner: tuple[int, int]) -> None:
    """Give a container's control group to its root, who may then make others in it. Its own limits stay the host's.

    groups: as ``Session.groups``. owner: the host's IDs of that root.
    """
    for hierarchy, path in groups:
        if hierarchy.version == 2:
            for name in _OURS_V2:
                os.chown(path + name, *owner)


def set_oom_score(proc: str, score: int) -> None:
    """Set the oom_score_adj of the process with this directory in /proc. Raises LimitError."""
    try:
        fd = os.open(f"{proc}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"%d" % score)
        finally:
            os.close(fd)
    except PermissionError as error:
        raise LimitError(
            f"cannot set oom_score_adj to {score}: {error.strerror}", hint="to lower it takes CAP_SYS_RESOURCE"
        ) from error
