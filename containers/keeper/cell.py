"""What a container is made in: a range of IDs, mounted layers, control groups, a network. One for each keeper.

It is made before anybody knows for which container, up to a process that waits for its spec (``containers.birth``).
"""

from __future__ import annotations

import os

from containers import cgroups, events, extras, idmap, resolvers, syscalls, wire
from containers.birth import Births
from containers.delegation import remedy
from containers.errors import ContainerError, LimitError, NetworkError
from containers.keeper import ranges
from containers.rootfs import Layers
from containers.uplink import Uplink
from core.openfiles import hint_if_out_of_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from containers.guest import Guest
    from containers.hierarchies import Hierarchy
    from containers.keeper.loop import Loop
    from containers.keeper.neighbours import Neighbours

OOM_SCORE = 0
"""Of containers, as docker's. Their keeper has less where it may (``nursery``)."""


class Cell:
    """Makes one container after another: the same one, at each of its starts.

    run: of the engine. work: a private directory on a tmpfs. host_proc: a descriptor of the host's /proc.
    hierarchies: what control groups can be made in.
    """

    def __init__(self, loop: Loop, run: str, work: str, host_proc: int, hierarchies: list[Hierarchy]) -> None:
        self._loop = loop
        self._host_proc = host_proc
        self.switch = -1
        """The switch's network namespace, if there is one that this process knows."""

        self._run = run
        self._work = work
        self._folders = 1
        self._layers: Layers
        self.range = ranges.take(run)
        self.session = cgroups.Session(os.urandom(6).hex(), hierarchies)
        self.births = self._births()
        self._uplink: Uplink | None = None
        self._count = 0
        self._ready: Guest | None = None
        self._waiting: list[Callable[[NetworkError | None], None]] = []

    def prepare(self) -> None:
        """Make a container's first process ahead. Raises ContainerError, OSError."""
        if self._ready is None:
            self._ready = self._made()

    def take(self) -> Guest:
        """A first process, which is the caller's from here on, in a network of its own. Raises ContainerError."""
        guest, self._ready = self._ready, None
        if guest is not None:
            if not events.readable(guest.pidfd, 0):
                guest.was_spare = True
                return guest
            self.reap(guest)  # the kernel took it when memory ran out
        try:
            return self._made()
        except OSError as error:
            raise refused("cannot make a container", error) from error

    def take_host(self) -> Guest:
        """A first process in the host's network. Raises ContainerError."""
        self._drop_ready()
        try:
            return self._made("host")
        except OSError as error:
            raise refused("cannot make a container", error) from error

    def take_beside(self, others: Neighbours, kind: str) -> Guest:
        """A first process in the namespaces of other containers. Raises ContainerError.

        Its range of IDs is theirs from here on. kind: of the network that it has.
        """
        self._drop_ready()
        if "pid" in others.namespaces and not self.session.hierarchies:
            raise LimitError(
                "sharing another container's processes takes control groups: they tell whose processes are whose",
                hint=remedy(),
            )
        try:
            if others.first != self.range.first:
                shared = ranges.share(self._run, others.first)
                self.range.close()
                self.range = shared
                self._layers.close()
                self.births = self._births()
            return self._made(kind, others.namespaces)
        except OSError as error:
            raise refused("cannot make a container", error) from error

    def place_for(self, name: str) -> str:
        """A path on this process's own tmpfs."""
        return f"{self._work}/{name}"

    def connected(self, then: Callable[[NetworkError | None], None]) -> None:
        """Call ``then`` when there is a network to connect containers to, or an error instead. Raises NetworkError."""
        if self._uplink is None:
            self._uplink = Uplink(self._loop, self._work, ())
            self._uplink.changed = self._uplink_changed
        if self._uplink.ready:
            then(None)
            return
        self._waiting.append(then)
        try:
            self._uplink.start()
        except (NetworkError, OSError) as error:
            self._waiting.remove(then)
            raise error if isinstance(error, NetworkError) else NetworkError(f"no network: {error}") from error

    def order(self, guest: Guest, spec: dict[str, Any], stdio: list[int], resolv_conf: str | None = None) -> None:
        """Have a first process become the command of ``spec`` (``spec.to_wire``). Raises ContainerError, OSError.

        stdio: stays open. resolv_conf: its content where it is no matter of the kind of network.
        """
        assert guest.channel is not None
        resolv_conf = resolvers.host_resolv_conf() if resolv_conf is None else resolv_conf
        if spec["network"] == "default":
            assert self._uplink is not None
            wire.send(guest.channel, ("network", self._uplink.connect(guest.pid)))
            guest.connected = True
            resolv_conf = self._uplink.resolv_conf()
        if spec["limited"]:
            self.session.limit(guest.name, spec["limits"], guest.pid)
            guest.limited, guest.memory_bytes = True, spec["limits"]["memory_bytes"]
        if spec["extras"].get("privileged") and any(self.range.first):
            extras.delegate(self.session.groups(guest.name), self.range.first)
        if spec["extras"].get("oom_score"):
            extras.set_oom_score(f"/proc/{guest.pid}", spec["extras"]["oom_score"])
        body = wire.to_memfd(spec)
        try:
            self.births.order(guest, spec, [body, *stdio], resolv_conf)
        finally:
            os.close(body)

    def host_pid(self, pidfd: int) -> int:
        """The number that a process has for the host. For messages only: it is never used to reach the process."""
        fd = os.open(f"self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._host_proc)
        with open(fd, encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))

    def reap(self, guest: Guest) -> int:
        """Let go of a process that has ended; its status, as of waitpid."""
        _pid, status = os.waitpid(guest.pid, 0)
        os.close(guest.pidfd)
        if guest.channel is not None:
            guest.channel.close()
            guest.channel = None
        self.session.doom(guest.name)
        return status

    def kill(self, guest: Guest) -> None:
        """SIGKILL all of a container's processes."""
        guest.signal(syscalls.SIGKILL)
        self.session.kill(guest.name)

    def clear(self, guest: Guest) -> None:
        """SIGKILL what a container's first process has left where others' processes are, too, which no end of a PID
        namespace takes.
        """
        for _hierarchy, path in self.session.groups(guest.name):
            cgroups.remove_tree(path)

    def close(self) -> bool:
        """Leave nothing behind; whether that is so. What is of this process alone goes with it."""
        self._drop_ready()
        if self._uplink is not None:
            self._uplink.stop()
        is_clean = self.session.close()
        self.range.close()
        return is_clean

    def _drop_ready(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            self.kill(ready)
            self.reap(ready)

    def _births(self) -> Births:
        first = self.range.first
        userns = idmap.user_namespace(first) if any(first) else -1
        self._layers = Layers(f"{self._work}/layers{self._folders}", userns)
        self._folders += 1
        return Births(first, self._layers, OOM_SCORE, death_signal=0)

    def _made(self, kind: str = "default", beside: dict[str, int] | None = None) -> Guest:
        """A new guest, in control groups of its own.

        kind: of network.
        beside: namespaces of another container, as ``Births.fork_beside`` has them.
        """
        self._count += 1
        name = str(self._count)
        groups = self.session.create(name)
        try:
            if beside is None:
                guest = self.births.fork(name, self._count, kind, groups)
            else:
                guest = self.births.fork_beside(name, kind, groups, beside)
        except BaseException:
            self.session.remove(name)
            raise
        try:
            self.births.begin(guest, is_mapped=beside is not None)
        except (ContainerError, OSError):
            self.kill(guest)
            self.reap(guest)
            raise
        return guest

    def _uplink_changed(self, error: NetworkError | None) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(error)


def refused(what: str, error: OSError) -> ContainerError:
    """An error of the system as one of ours."""
    return ContainerError(f"{what}: {error}", hint=hint_if_out_of_files(error))
