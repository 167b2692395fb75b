"""Which cgroup hierarchies a host has, and what each can limit. (The launcher imports this: only what is cheap.)"""

from __future__ import annotations

from core.mountinfo import mounts

PARENT = "shiplap"

# Version 1 controllers that carry limits or the freezer. cpuset needs its masks filled in before it takes a process,
# and blkio, devices and the like limit nothing that we do: joining them costs and gives nothing.
_V1_WANTED = frozenset({"cpu", "memory", "pids", "freezer"})
_V2_WANTED = ("cpu", "memory", "pids", "io")


class Hierarchy:
    """One mounted cgroup hierarchy.

    path: where it is mounted.
    version: 1 or 2.
    controllers: what it can limit.
    group: the name of the enclosure that the session is to be in; empty for none.
    """

    __slots__ = ("controllers", "group", "path", "version")

    def __init__(self, path: str, version: int, controllers: tuple[str, ...], group: str = "") -> None:
        self.path = path
        self.version = version
        self.controllers = controllers
        self.group = group

    @property
    def top(self) -> str:
        """The directory of all that is Shiplap's."""
        return f"{self.path}/{PARENT}"

    @property
    def parent(self) -> str:
        """The directory that holds the session's."""
        return f"{self.top}/{self.group}" if self.group else self.top


def hierarchies(mountinfo: str, group: str = "") -> list[Hierarchy]:
    """The hierarchies in ``mountinfo`` (text of /proc/PID/mountinfo) that are of use to us, each once.

    group: see Hierarchy.
    """
    found: dict[tuple[int, tuple[str, ...]], Hierarchy] = {}
    for mount in mounts(mountinfo):
        path = mount.place
        if mount.kind == "cgroup2":
            found.setdefault((2, ()), Hierarchy(path, 2, _available(path), group))
        elif mount.kind == "cgroup" and (controllers := tuple(sorted(_V1_WANTED.intersection(mount.options)))):
            found.setdefault((1, controllers), Hierarchy(path, 1, controllers, group))
    return list(found.values())


def _available(path: str) -> tuple[str, ...]:
    try:
        with open(path + "/cgroup.controllers", encoding="ascii") as file:
            offered = file.read().split()
    except OSError:
        return ()
    return tuple(name for name in _V2_WANTED if name in offered)
