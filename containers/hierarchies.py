"""Which cgroup hierarchies a host has, and what each can limit. (The launcher imports this: only what is cheap.)"""

from __future__ import annotations

from containers import delegation
from core.mountinfo import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from core.mountinfo import Mount

PARENT = "shiplap"
# Version 1 controllers that carry limits or the freezer. Joining one costs, so those that hardly any container asks for
# are joined by these alone: cpuset, which needs its masks filled in before it takes a process, and blkio.
_V1_WANTED = frozenset({"cpu", "memory", "pids", "freezer"})
_V1_RARE = frozenset({"cpuset", "blkio"})
_V2_WANTED = ("cpu", "memory", "pids", "io", "cpuset")


class Hierarchy:
    """One mounted cgroup hierarchy, or what of it was delegated.

    path: where it is mounted, or the delegated group.
    version: 1 or 2.
    controllers: what it can limit.
    group: the name of the enclosure that the session is to be in; empty for none.
    is_delegated: whether the path is that of a delegated group.
    """

    __slots__ = ("controllers", "group", "is_delegated", "path", "version")

    def __init__(
        self, path: str, version: int, controllers: tuple[str, ...], group: str = "", *, is_delegated: bool = False
    ) -> None:
        self.path = path
        self.version = version
        self.controllers = controllers
        self.group = group
        self.is_delegated = is_delegated

    def having(self, controllers: tuple[str, ...]) -> Hierarchy:
        """The same with other controllers."""
        return Hierarchy(self.path, self.version, controllers, self.group, is_delegated=self.is_delegated)

    @property
    def top(self) -> str:
        """The directory of all that is Shiplap's."""
        return f"{self.path}/{PARENT}"

    @property
    def parent(self) -> str:
        """The directory that holds the session's."""
        return f"{self.top}/{self.group}" if self.group else self.top


def hierarchies(mountinfo: str, cgroup: str, group: str = "") -> list[Hierarchy]:
    """The hierarchies that are of use to us, each once.

    mountinfo, cgroup: the texts of this process's /proc/self/mountinfo and /proc/self/cgroup. group: see Hierarchy.
    """
    found: dict[tuple[int, tuple[str, ...]], Hierarchy] = {}
    for mount in mounts(mountinfo):
        path = mount.place
        if mount.kind == "cgroup2":
            if (2, ()) not in found:
                found[2, ()] = _version_2(mount, cgroup, group)
        elif mount.kind == "cgroup" and (controllers := tuple(sorted(_V1_WANTED.intersection(mount.options)))):
            found.setdefault((1, controllers), Hierarchy(path, 1, controllers, group))
    return list(found.values())


def own_hierarchies(group: str = "") -> list[Hierarchy]:
    """The hierarchies that are of use to this process. group: see Hierarchy."""
    return hierarchies(_read("/proc/self/mountinfo"), _read("/proc/self/cgroup"), group)


def rare_hierarchies() -> list[Hierarchy]:
    """The hierarchies of version 1 that only containers with finer limits join: each once."""
    found: dict[tuple[str, ...], Hierarchy] = {}
    for mount in mounts(_read("/proc/self/mountinfo")):
        if mount.kind == "cgroup" and (controllers := tuple(sorted(_V1_RARE.intersection(mount.options)))):
            found.setdefault(controllers, Hierarchy(mount.place, 1, controllers))
    return list(found.values())


def make_room(found: list[Hierarchy]) -> None:
    """Make room in delegated groups for groups that have limits.

    Not to be called in a PID namespace: a process there does not see all the processes that have to move.
    """
    for hierarchy in found:
        if hierarchy.is_delegated:
            delegation.make_room(hierarchy.path)


def listed(path: str) -> tuple[str, ...]:
    """The controllers of use to us in a file like ``cgroup.controllers``."""
    try:
        with open(path, encoding="ascii") as file:
            offered = file.read().split()
    except OSError:
        return ()
    return tuple(name for name in _V2_WANTED if name in offered)


def _version_2(mount: Mount, cgroup: str, group: str) -> Hierarchy:
    """The delegated part of the hierarchy if it can limit anything; else all of it."""
    folder = delegation.delegated_group(mount, cgroup)
    if folder and (controllers := listed(f"{folder}/cgroup.controllers")):
        return Hierarchy(folder, 2, controllers, group, is_delegated=True)
    return Hierarchy(mount.place, 2, listed(f"{mount.place}/cgroup.controllers"), group)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:  # a kernel without control groups
        return ""
