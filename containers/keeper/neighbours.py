"""What a container has of others that run: their network, their processes, their System V IPC and /dev/shm.

It joins their user namespace, too, without whose rights it could do nothing with these. So all that it joins has to be
of one user namespace: of one container, or of such as share already.
"""

from __future__ import annotations

import os

from containers import syscalls
from containers.errors import KeeperError, NetworkError, StateError
from containers.keeper import protocol, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

JOINED = "container:"
_PATIENCE_S = 2.0
_USER = "user"
_KINDS = ("network", "pid", "ipc")
"""What can be another container's: members of ``spec.json`` that then say ``container:`` and its ID."""

_NAMES = {"network": "net", "pid": "pid", "ipc": "ipc"}
_REFUSALS = {
    "network": "cannot join network of a non running container: {}",
    "pid": "failed to join PID namespace: container {} is not running",
    "ipc": "failed to join IPC namespace: container {} is not running",
}
_SHM = "shm"


def joined(spec: dict[str, Any]) -> dict[str, str]:
    """What of the container is another's, and whose. spec: ``spec.json``."""
    found = {kind: spec.get(kind) for kind in _KINDS}
    return {
        kind: value.removeprefix(JOINED)
        for kind, value in found.items()
        if isinstance(value, str) and value.startswith(JOINED)
    }


def has_others_processes(spec: dict[str, Any]) -> bool:
    """Whether it is in the PID namespace of another container: its keeper has to be above both."""
    return "pid" in joined(spec)


class Neighbours:
    """The containers that one is to be beside. Owns its descriptors, ended by ``close``.

    namespaces: descriptors by name, as ``Births.fork_beside`` has them.
    shm: a tree of /dev/shm; -1 when that is its own.
    first: of their range of IDs.
    is_host: whether the network that it is to have is the host's.
    place: what who has that network was told of it, ``hostname``, ``hosts`` and ``resolv_conf``; None when the network
        is its own.
    """

    def __init__(self, run: str, wanted: dict[str, str]) -> None:
        """wanted: as ``joined`` returns it. Raises NetworkError, StateError."""
        self._run = run
        self._wanted = wanted
        self.namespaces: dict[str, int] = {}
        self.shm = -1
        self.first = (0, 0)
        self.is_host = False
        self.place: dict[str, Any] | None = None
        try:
            for kind, identity in wanted.items():
                self._join(kind, identity)
        except BaseException:
            self.close()
            raise

    def still_run(self) -> None:
        """Raise NetworkError or StateError unless all run: then nobody else can have had their range in between."""
        for kind, identity in self._wanted.items():
            _answer, fds = _asked(self._run, kind, identity)
            _close_all(fds.values())

    def close(self) -> None:
        """Let go of what is theirs."""
        _close_all([fd for fd in (*self.namespaces.values(), self.shm) if fd >= 0])
        self.namespaces, self.shm = {}, -1

    def _join(self, kind: str, identity: str) -> None:
        answer, fds = _asked(self._run, kind, identity)
        try:
            if _USER in self.namespaces and not _are_same(self.namespaces[_USER], fds[_USER]):
                raise StateError(
                    f"cannot join container {identity}: what is joined beside it is of another user namespace",
                    hint="all has to be of one container, or of such as share already: --network container:NAME",
                )
            self.first = (answer["range"][0], answer["range"][1])
            if kind == "network":
                self.is_host = bool(answer["is_host"])
                self.place = {
                    "hostname": str(answer["hostname"]),
                    "hosts": tuple((str(name), str(address)) for name, address in answer["hosts"]),
                    "resolv_conf": str(answer["resolv_conf"]),
                }
            elif kind == "ipc":
                self.shm = fds.pop(_SHM, -1)
                if self.shm < 0:
                    raise StateError(
                        f"failed to join IPC namespace: container {identity}: non-shareable IPC (hint: use"
                        " IpcMode:shareable for the donor container)"
                    )
            for name in (_NAMES[kind], _USER):
                self.namespaces.setdefault(name, fds[name])
        finally:
            _close_all(fd for fd in fds.values() if fd not in self.namespaces.values())


def _asked(run: str, kind: str, identity: str) -> tuple[dict[str, Any], dict[str, int]]:
    """What a container's keeper tells of it, and descriptors by name, which the caller closes."""
    names = [_NAMES[kind], _USER, *((_SHM,) if kind == "ipc" else ())]
    try:
        with protocol.connect(records.socket_path(run, identity), _PATIENCE_S) as keeper:
            answer, fds = keeper.ask("namespaces", {"of": names}, timeout_s=_PATIENCE_S)
    except (KeeperError, StateError, TimeoutError) as error:
        kind_of_error = NetworkError if kind == "network" else StateError
        raise kind_of_error(_REFUSALS[kind].format(identity)) from error
    told = answer.get("of")
    if told is None and kind != "network":
        _close_all(fds)
        raise StateError(
            f"the keeper of container {identity} is of an older release, and shares its network only",
            hint="stop and start that container",
        )
    return answer, dict(zip(told or ("net", _USER), fds, strict=True))


class Shared:
    """What of a container others may join. place: of a directory to mount on, on a tmpfs of this process's own."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._is_mounted = False

    def make(self, size_bytes: int, owner: tuple[int, int]) -> int:
        """A new /dev/shm; a tree of it, which the caller closes. Raises OSError. owner: the container's root."""
        self.drop()
        os.makedirs(self._place, 0o700, exist_ok=True)
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        options = f"mode=1777,size={size_bytes},uid={owner[0]},gid={owner[1]}"
        syscalls.mount("shm", self._place, "tmpfs", flags, options)
        self._is_mounted = True
        return self.tree()

    def tree(self) -> int:
        """A tree of it, which the caller closes. Raises OSError."""
        return syscalls.open_tree(syscalls.AT_FDCWD, self._place, syscalls.OPEN_TREE_CLONE)

    def drop(self) -> None:
        """The container has ended: who has joined keeps it until then."""
        if self._is_mounted:
            self._is_mounted = False
            syscalls.umount2(self._place, syscalls.MNT_DETACH)

    def opened(self, pid: int, names: list[str]) -> dict[str, int]:
        """Descriptors of a process's namespaces, and of ``shm`` if there is one, which the caller closes.

        Raises StateError, OSError.
        """
        found: dict[str, int] = {}
        place = os.open(f"/proc/{pid}/ns", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # there until it is reaped
        try:
            for name in names:
                if name == _SHM:
                    if self._is_mounted:
                        found[name] = self.tree()
                elif name in (*_NAMES.values(), _USER):
                    found[name] = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=place)
            return found
        except OSError:
            _close_all(found.values())
            raise
        finally:
            os.close(place)


def _are_same(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


def _close_all(fds: Iterable[int]) -> None:
    for fd in list(fds):
        os.close(fd)
