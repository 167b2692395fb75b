"""A control group per container: ``shiplap/<session>/<container>`` in each hierarchy that can be used.

Version 2 has one hierarchy, version 1 one per controller; a mixed host has both, and all are used. A session is one
launcher. It holds a flock on its own directory in each hierarchy: whoever gets that lock knows that the launcher is
dead, however it died, and may remove the directory (``reclaim``). No file elsewhere records anything.
In version 2 all this is below the group that was delegated to the service, if one was: so the service's limits hold for
its containers (``delegation``). Elsewhere it is at the top. What a container may use is ``limits``' matter.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from containers import delegation, finelimits, limits
from containers.errors import LimitError
from containers.hierarchies import Hierarchy, listed, rare_hierarchies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MANY_DOOMED = 200
_FREEZE_TRIES = 100


class Session:
    """The control groups of one launcher. Hierarchies that cannot be written (a read-only mount) are left out."""

    def __init__(self, name: str, found: list[Hierarchy]) -> None:
        self.name = name
        self.hierarchies: list[Hierarchy] = []
        self._locks: list[int] = []
        self._claimed: dict[str, Hierarchy] = {}
        self._rare: dict[str, list[Hierarchy]] = {}
        self._doomed: list[str] = []
        self._above: dict[str, int] = {}
        for hierarchy in found:
            try:
                self._locks.append(_claim(hierarchy, name))
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT) or _is_lost(hierarchy):
                    raise
            else:
                self.hierarchies.append(_as_it_is(hierarchy, name))

    def bound(self, memory_bytes: int, swap_bytes: int | None) -> bool:
        """Limit all that is in this session's group together; whether this host can. swap_bytes: None is any amount."""
        total = limits.UNLIMITED if swap_bytes is None else memory_bytes + swap_bytes
        wanted = {"memory_bytes": memory_bytes, "memory_swap_bytes": total, "cpus": 0.0, "cpu_shares": 0, "pids": 0}
        if limits.missing({**wanted, "optional": ()}, self.hierarchies) is not None:
            return False
        try:
            for hierarchy in self.hierarchies:
                limits.apply(wanted, f"{hierarchy.parent}/{self.name}", hierarchy)
        except LimitError:  # a controller that is there, and not passed on to groups below
            return False
        return True

    def create(self, container: str) -> tuple[int, list[int]]:
        """Make the groups of a container; returns how a process gets into them.

        container: its name; ``GROUP/NAME`` where it has limits together with others. GROUP is made with the first of
        these, and is removed with the last.

        Returns a descriptor of the version 2 group for clone3's CLONE_INTO_CGROUP (-1 without one) and, of version 1,
        descriptors to which the process itself writes "0". Entering by clone3 is free. A move waits for an RCU grace
        period (6 to 16 ms here) unless one was a moment ago: so a container moves before it is needed.
        """
        try:
            if above := _above(container):
                self._create_above(above)
            for hierarchy in self.hierarchies:
                os.mkdir(f"{hierarchy.parent}/{self.name}/{container}", 0o755)
            return self.doors(container)
        except BaseException:
            self.remove(container)
            raise

    def _create_above(self, name: str) -> None:
        """Make what holds the groups of several containers, if it is not there.

        Of version 2 only groups without processes can limit those below them; so a container's own are one level down.
        """
        self._above[name] = self._above.get(name, 0) + 1
        for hierarchy, path in self.groups(name):
            _mkdir(path)
            if hierarchy.version == 2:
                _pass_on(path, hierarchy.controllers)
            if path in self._doomed:
                self._doomed.remove(path)

    def doors(self, container: str) -> tuple[int, list[int]]:
        """How a process gets into the groups of a container that is there, as ``create`` returns it. Raises OSError."""
        into, joins = -1, []
        try:
            for hierarchy, path in self.groups(container):
                if hierarchy.version == 2:
                    into = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                else:
                    joins.append(os.open(path + "/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        except BaseException:
            for fd in (into, *joins):
                if fd >= 0:
                    os.close(fd)
            raise
        return into, joins

    def groups(self, container: str) -> list[tuple[Hierarchy, str]]:
        """The directories of a container's groups."""
        hierarchies = [*self.hierarchies, *self._rare.get(container, ())]
        return [(hierarchy, f"{hierarchy.parent}/{self.name}/{container}") for hierarchy in hierarchies]

    def freeze(self, container: str, *, frozen: bool) -> bool:
        """Stop all processes of a container where they are, or let them go on; whether this host can. Raises OSError.

        cgroup v2: ``cgroup.freeze``; v1: freezer-subsystem.rst, whose state is FREEZING until all have stopped.
        """
        for hierarchy, path in self.groups(container):
            if hierarchy.version == 2 and os.path.exists(f"{path}/cgroup.freeze"):
                _write(f"{path}/cgroup.freeze", b"1" if frozen else b"0")
                return True
            if "freezer" in hierarchy.controllers:
                wanted = b"FROZEN" if frozen else b"THAWED"
                for _ in range(_FREEZE_TRIES):
                    _write(f"{path}/freezer.state", wanted)
                    if _content(f"{path}/freezer.state").strip() == wanted:
                        break
                    time.sleep(0.001)
                return True
        return False

    def limit(self, container: str, wanted: dict[str, Any], first: int) -> None:
        """Hold a container to limits (``Limits._asdict()``). Raises LimitError.

        first: its first process, which may not have entered its groups yet.
        """
        lacking = limits.missing(wanted, self.hierarchies)
        if lacking is not None:
            raise LimitError(
                f"this host cannot limit {lacking}: no cgroup controller of that name can be used",
                hint=f"{delegation.remedy()}; `shiplap doctor` lists those that can be used",
            )
        if wanted.get("fine"):
            self._join_rare(container, wanted, first)
        for hierarchy, group in self.groups(container):
            limits.apply(wanted, group, hierarchy)

    def _join_rare(self, container: str, wanted: dict[str, Any], first: int) -> None:
        """Have a container in the hierarchies that only its finer limits need. Raises LimitError."""
        offered = {name for hierarchy, _ in self.groups(container) for name in hierarchy.controllers}
        lacking = [name for name in finelimits.controllers(wanted, io="io" in offered) if name not in offered]
        rare = rare_hierarchies() if lacking else []
        for name in lacking:
            hierarchy = next((each for each in rare if name in each.controllers), None)
            if hierarchy is None or not self._join(container, hierarchy, first):
                raise LimitError(f"this host cannot limit {name}: no cgroup controller of that name can be used")

    def _join(self, container: str, hierarchy: Hierarchy, first: int) -> bool:
        """Move a container, with all that is in it, into a group of one hierarchy more; whether this host lets us."""
        path = f"{hierarchy.parent}/{self.name}/{container}"
        try:
            if hierarchy.path not in self._claimed:
                self._locks.append(_claim(hierarchy, self.name))
                self._claimed[hierarchy.path] = hierarchy
            os.mkdir(path, 0o755)
            if "cpuset" in hierarchy.controllers:
                for folder in (hierarchy.parent, os.path.dirname(path), path):
                    _fill_cpuset(folder)
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                return False
            raise
        known = next((group for _, group in self.groups(container)), None)
        self._rare.setdefault(container, []).append(hierarchy)
        if known is None:
            return False
        for _ in range(_FREEZE_TRIES):
            missing = {b"%d" % first, *_members(known)} - set(_members(path))
            if not missing:
                break
            for pid in missing:
                try:
                    _write(f"{path}/cgroup.procs", pid)
                except ProcessLookupError:
                    continue
        return True

    def exceeded(self, container: str) -> list[str]:
        """Which limits a container that still has its groups ran into: see ``limits.exceeded``."""
        above = _above(container)
        return [
            name
            for hierarchy, session in ((each, f"{each.parent}/{self.name}") for each in self.hierarchies)
            for name in limits.exceeded(f"{session}/{container}", hierarchy, f"{session}/{above}" if above else "")
        ]

    def kill(self, container: str) -> None:
        """SIGKILL every process of a container in one step where version 2 is mounted (Linux 5.14).

        The death of a pid namespace's first process does it everywhere else; this also gets a process that joined the
        group from outside.
        """
        for hierarchy in self.hierarchies:
            if hierarchy.version == 2:
                try:
                    _write(f"{hierarchy.parent}/{self.name}/{container}/cgroup.kill", b"1")
                except OSError as error:
                    # Without a descriptor to spare it stays with the death of the pid namespace.
                    if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EMFILE, errno.ENFILE):
                        raise

    def remove(self, container: str) -> None:
        """Remove a container's groups; what is still busy (a dying process) is left to ``sweep``."""
        self.doom(container)
        self.sweep()

    def doom(self, container: str) -> None:
        """Leave a container's groups to the next ``sweep``; sweep now when many wait, as none has come for long."""
        self._doomed += [group for _, group in self.groups(container)]
        self._rare.pop(container, None)
        above = _above(container)
        if above:
            self._above[above] -= 1
            if not self._above[above]:
                del self._above[above]
                self._doomed += [group for _, group in self.groups(above)]
        if len(self._doomed) > _MANY_DOOMED:
            self.sweep()

    @property
    def unfinished(self) -> bool:
        """Whether there is something for ``sweep`` to remove."""
        return bool(self._doomed)

    def sweep(self) -> None:
        """Remove what is doomed and no longer busy."""
        self._doomed = [path for path in self._doomed if not _rmdir(path)]

    def close(self) -> bool:
        """Remove the session's own directories; whether all are gone.

        Killed processes may take seconds to die where many others want the processors.
        """
        is_clean = True
        for hierarchy in (*self.hierarchies, *self._claimed.values()):
            is_clean = remove_tree(f"{hierarchy.parent}/{self.name}", timeout_s=10.0) and is_clean
            if not hierarchy.group:
                _rmdir(hierarchy.parent)
        for fd in self._locks:
            os.close(fd)
        self.hierarchies, self._locks, self._claimed, self._rare = [], [], {}, {}
        return is_clean


def abandoned(found: list[Hierarchy]) -> list[str]:
    """Remove the groups of sessions whose launcher is gone; the paths removed."""
    removed = []
    for hierarchy in found:
        if not os.access(hierarchy.top, os.W_OK):
            continue  # there are none, or they are another user's
        paths = []
        for folder in dict.fromkeys((hierarchy.parent, hierarchy.top)):
            try:
                paths += [entry.path for entry in os.scandir(folder) if entry.is_dir()]
            except (FileNotFoundError, PermissionError):
                continue
        for path in paths:
            lock = _lock(path)
            if lock is None:
                continue
            try:
                if remove_tree(path):
                    removed.append(path)
            finally:
                os.close(lock)
        _rmdir(hierarchy.top)
    return removed


def remove_tree(path: str, *, timeout_s: float = 2.0) -> bool:
    """Kill what is in a cgroup directory and its children, and remove them. False when something is left."""
    deadline = time.monotonic() + timeout_s
    while True:
        gone = True
        for folder, _children, files in os.walk(path, topdown=False):
            if not _rmdir(folder):
                gone = False
                _kill_members(folder, files)
        if gone or time.monotonic() > deadline:
            return gone
        time.sleep(0.005)


def _kill_members(folder: str, files: list[str]) -> None:
    if "cgroup.kill" in files:
        _write(folder + "/cgroup.kill", b"1")
        return
    with open(folder + "/cgroup.procs", encoding="ascii") as file:
        pids = [int(line) for line in file]
    for pid in pids:
        if pid > 0:  # 0: a process of an outer pid namespace
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue


def _above(container: str) -> str:
    """The group that a container is in with others; empty: it is in none."""
    return container.rpartition("/")[0]


def _is_lost(hierarchy: Hierarchy) -> bool:
    """Whether the enclosure was there, and has gone: without it nothing would bound the containers."""
    return bool(hierarchy.group) and os.path.isdir(hierarchy.top) and not os.path.isdir(hierarchy.parent)


def _claim(hierarchy: Hierarchy, name: str) -> int:
    """Make the session's directory and lock it; the lock's descriptor."""
    path = f"{hierarchy.parent}/{name}"
    while True:
        if not hierarchy.group:
            _mkdir(hierarchy.parent)
        elif not os.path.isdir(hierarchy.parent):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), hierarchy.parent)
        try:
            _mkdir(path)
        except FileNotFoundError:
            continue  # another process has removed the empty parent
        lock = _lock(path)
        if lock is not None and os.path.isdir(path):
            break
        if lock is not None:
            os.close(lock)  # a reclaiming process was between our mkdir and our lock
    if hierarchy.version == 2:
        for folder in dict.fromkeys((hierarchy.path, hierarchy.top, hierarchy.parent, path)):
            _pass_on(folder, hierarchy.controllers)
    return lock


def _as_it_is(hierarchy: Hierarchy, name: str) -> Hierarchy:
    """The hierarchy with only those controllers that the groups of a session's containers really have."""
    if hierarchy.version == 1:
        return hierarchy
    passed_on = listed(f"{hierarchy.parent}/{name}/cgroup.subtree_control")
    return hierarchy.having(passed_on)


def _fill_cpuset(folder: str) -> None:
    """Let a new group of a version 1 cpuset have what the one above it has: without that nobody can join it."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not _content(f"{folder}/{name}").strip():
            _write(f"{folder}/{name}", _content(f"{os.path.dirname(folder)}/{name}").strip())


def _pass_on(folder: str, controllers: tuple[str, ...]) -> None:
    """Let the children of a version 2 group have controllers, as far as the host allows."""
    for controller in controllers:
        try:
            _write(folder + "/cgroup.subtree_control", b"+" + controller.encode())
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOENT, errno.EPERM, errno.EACCES, errno.EROFS, errno.EOPNOTSUPP):
                raise


def _lock(path: str) -> int | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _mkdir(path: str) -> None:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return


def _rmdir(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise
    return True


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _members(group: str) -> list[bytes]:
    """The processes of a group, however many they are."""
    with open(f"{group}/cgroup.procs", "rb") as file:
        return file.read().split()


def _content(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)
