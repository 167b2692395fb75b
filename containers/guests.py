"""Containers as the launcher sees them: spare ones made ahead, ones on their way, running ones, ended ones."""

from __future__ import annotations

import _socket
import os
import time

from containers import events, resolvers, stubs, syscalls, wire
from containers.birth import Births, close_all
from containers.errors import ContainerError, NetworkError, SeccompError
from containers.guest import Guest, error_message
from core.openfiles import hint_if_out_of_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from containers.cgroups import Session
    from containers.events import Loop
    from containers.joining import Joins
    from containers.rootfs import Layers
    from containers.uplink import Uplink

_OOM_SCORE = 500  # as if it had half of the memory in addition to what it has.  proc_pid_oom_score_adj(5)
_SPARES = {"default": 2, "none": 1, "host": 1}
"""Containers to have ready, by kind of network, once one of that kind was asked for."""


class Guests:
    """All of a launcher's containers.

    ranges: first host user and group ID.
    """

    def __init__(
        self,
        loop: Loop,
        uplink: Uplink,
        ranges: tuple[int, int],
        layers: Layers,
        session: Session,
    ) -> None:
        self._loop = loop
        self._births = Births(ranges, layers, _OOM_SCORE, death_signal=syscalls.SIGKILL)
        self._session = session
        self._ranges = ranges
        self._uplink = uplink
        uplink.changed = self._uplink_changed
        self._count = 0
        self._all: dict[str, Guest] = {}
        self._joins: dict[str, Joins] = {}
        self._spares: list[Guest] = []
        self._waiting: list[Guest] = []
        self._kinds: set[str] = set()

    def warm(self) -> None:
        """Get ready for containers with a network. If that fails, the first one that needs it gets the error."""
        try:
            self._uplink.start()
            self._births.call_filter()
        except (NetworkError, SeccompError, OSError):
            return
        self._kinds.add("default")

    def start(self, client: _socket.socket, spec: Any, fds: list[int]) -> None:
        """Start a container for a client. fds: memfd of the spec, stdin, stdout, stderr; owned from here on.

        A container of a segment has that as one more.

        The client gets ``started`` or an error, and ``exit`` at the end.
        """
        guest: Guest | None = None
        try:
            kind = spec["network"]
            if kind == "default":
                self._uplink.start()
            self._kinds.add(kind)
            group = spec["group"]
            guest = self._create(kind, group[0]) if group else self._take_spare(kind) or self._create(kind)
        except ContainerError as error:
            reply(client, error_message(error))
        except OSError as error:
            reply(client, error_message(_refused("cannot make a container", error)))
        if guest is None:
            client.close()
            close_all(fds)
            return
        self._serve(guest, client, spec, fds)

    def _serve(self, guest: Guest, client: _socket.socket, spec: Any, fds: list[int]) -> None:
        """Have a guest become what a client wants. spec, fds: as for ``start``."""
        kind = guest.network
        guest.client = client
        guest.request = (spec, fds)
        guest.upper = None if spec["upper"] is None else spec["upper"] + "/fs"
        self._loop.watch(client.fileno(), lambda: self._on_client(guest))
        if kind == "default" and guest.beside is None and not self._uplink.ready:
            self._waiting.append(guest)
        else:
            self._dispatch(guest)

    @property
    def wants_spare(self) -> bool:
        """Whether a moment without events is to be used for ``make_spare``."""
        return self._missing_spare() is not None

    def make_spare(self) -> None:
        """Make a container ahead, so that nobody waits for those parts of a start that wait for the kernel."""
        kind = self._missing_spare()
        if kind is None:
            return
        try:
            guest = self._create(kind)
        except (ContainerError, OSError):
            self._kinds.clear()  # whoever needs one will be told why there is none
            return
        self._spares.append(guest)
        if kind == "default" and self._uplink.ready:
            self._connect_spare(guest)

    def _connect_spare(self, guest: Guest) -> None:
        if guest.channel is None:
            return  # it has ended
        try:
            self._connect(guest)
        except (ContainerError, OSError):
            self._kill(guest)

    def _missing_spare(self) -> str | None:
        for kind in self._kinds:
            # While the network comes up, its processes have the kernel's locks: a second one would wait for them here.
            wanted = 1 if kind == "default" and not self._uplink.ready else _SPARES[kind]
            if sum(guest.network == kind for guest in self._spares) < wanted:
                return kind
        return None

    def _take_spare(self, kind: str) -> Guest | None:
        for guest in self._spares:
            # What has ended is passed over: a spare one is the first that the kernel takes when memory runs out.
            if guest.network == kind and guest.report is None and not events.readable(guest.pidfd, 0):
                self._spares.remove(guest)
                guest.was_spare = True
                return guest
        return None

    def shut_down(self, timeout_s: float) -> None:
        """Kill all and wait until they are gone."""
        self._uplink.stop()  # first: it takes the longest
        for guest in list(self._all.values()):
            self._forget_client(guest)
            self._kill(guest)
        deadline = time.monotonic() + timeout_s
        for guest in list(self._all.values()):
            if events.readable(guest.pidfd, deadline - time.monotonic()):
                self._on_exit(guest)

    def _create(self, kind: str, group: str = "") -> Guest:
        """Fork a process that prepares a container as far as it can without a spec. group: that it is in, with others.

        Who is in a group is in it from the beginning: of version 1, who moves waits for the kernel.
        """
        self._count += 1
        name = f"{group}/{self._count}" if group else str(self._count)
        groups = self._session.create(name)
        try:
            guest = self._births.fork(name, self._count, kind, groups)
        except (ContainerError, OSError):
            self._session.remove(name)
            raise
        self._begin(guest)
        return guest

    def _accompany(self, main: Guest, client: _socket.socket, spec: Any, fds: list[int]) -> None:
        """Start a container beside another one, in its user and network namespaces. The rest is as for ``start``."""
        from containers import companions  # its import takes time, which builds are not to spend

        guest: Guest | None = None
        shown: list[int] = []
        try:
            self._count += 1
            guest = companions.forked(self._births, self._session, main, self._count)
            self._begin(guest)
            companions.delegate(self._session, guest, self._ranges)
            shown = companions.show_root(main, spec)
        except ContainerError as error:
            reply(client, error_message(error))
        except OSError as error:
            reply(client, error_message(_refused("cannot make a container beside another one", error)))
        else:
            self._serve(guest, client, spec, fds)
            close_all(shown)
            return
        client.close()
        close_all(fds)
        if guest is not None:
            self._kill(guest)

    def _begin(self, guest: Guest) -> None:
        """Follow a process that was forked, and let it prepare."""
        self._all[guest.name] = guest
        self._loop.watch(guest.pidfd, lambda: self._on_exit(guest))
        assert guest.channel is not None
        self._loop.watch(guest.channel.fileno(), lambda: self._on_channel(guest))
        try:
            self._births.begin(guest, is_mapped=guest.beside is not None)
        except ContainerError as error:
            self._fail(guest, error)
        except OSError as error:  # also when it has ended by then
            self._fail(guest, _refused("cannot make a container", error))

    def _connect(self, guest: Guest) -> None:
        assert guest.channel is not None
        wire.send(guest.channel, ("network", self._uplink.connect(guest.pid)))
        guest.connected = True

    def _dispatch(self, guest: Guest) -> None:
        """Send a guest what it needs to go on, unless it has ended."""
        if guest.channel is None:
            return
        assert guest.request is not None
        spec, fds = guest.request
        try:
            if guest.network == "default" and not guest.connected:
                self._connect(guest)
            if spec["group"]:
                group, together = spec["group"]
                self._session.limit(group, together, guest.pid)
            if spec["limited"]:
                self._session.limit(guest.name, spec["limits"], guest.pid)
                guest.limited, guest.memory_bytes = True, spec["limits"]["memory_bytes"]
            if spec["segment"]:
                _attach(guest, fds[4], spec["segment"])
            connected = guest.network == "default"
            resolv_conf = self._uplink.resolv_conf() if connected else resolvers.host_resolv_conf()
            self._births.order(guest, spec, fds[:4], resolv_conf)
        except ContainerError as error:
            self._fail(guest, error)
        except OSError as error:
            self._fail(guest, _refused("cannot start the container", error))

    def _uplink_changed(self, error: NetworkError | None) -> None:
        waiting, self._waiting = self._waiting, []
        if error is None:
            for guest in self._spares:
                if guest.network == "default":
                    self._connect_spare(guest)
            for guest in waiting:
                self._dispatch(guest)
            return
        for guest in self._all.values():
            if guest.connected:
                guest.lost = error_message(error)
        for guest in waiting:
            self._fail(guest, error)
        while (spare := self._take_spare("default")) is not None:
            self._kill(spare)
        self._kinds.discard("default")

    def _on_client(self, guest: Guest) -> None:
        assert guest.client is not None
        received = wire.receive(guest.client)
        if received is None:
            self._forget_client(guest)
            self._kill(guest)
            return
        message: Any = received[0]
        if message[0] == "kill":
            guest.killed = True
            self._kill(guest)
        elif message[0] == "signal":
            guest.signal(message[1])
        else:
            self._ask(guest, message, received[1])

    def _ask(self, guest: Guest, message: Any, fds: list[int]) -> None:
        """Do what a client asks of a running container. fds: the socket for the answers; of some, others."""
        from containers.joiners import Joiner, is_listening  # its import takes time, which builds are not to spend

        client = wire.from_fd(fds[0])
        if message[0] == "accompany":
            self._accompany(guest, client, wire.from_memfd(fds[1]), fds[1:])
            return
        if message[0] == "listens":
            reply(client, ("listens", guest.executing and is_listening(guest.pid, *message[1:])))
            client.close()
            return
        if guest.name not in self._joins:
            from containers.joining import Joins

            self._joins[guest.name] = Joins(self._loop, self._births, self._session, guest)
        spec = wire.from_memfd(fds[1])
        os.close(fds[1])
        Joiner(self._loop, self._joins[guest.name], client, fds[2:]).start(spec)

    def _tell_begun(self, guest: Guest) -> None:
        """Tell the client, once, that the command is being executed, if it is."""
        if guest.client is not None and guest.executing and guest.report is None and not guest.is_told:
            guest.is_told = True
            _drop_request(guest)
            reply(guest.client, ("started",))

    def _on_channel(self, guest: Guest) -> None:
        """Take what set-up has to say, and an init after it.

        The channel ends when the command begins, or when the process ends.
        """
        assert guest.channel is not None
        received = wire.receive(guest.channel)
        if received is None:
            self._loop.unwatch(guest.channel.fileno())
            guest.channel.close()
            guest.channel = None
            self._tell_begun(guest)
            return
        message: Any = received[0]
        if message[0] == "terminal":
            if guest.client is not None:
                reply(guest.client, message, received[1])
            close_all(received[1])
        elif message[0] == "begun":
            self._tell_begun(guest)
        elif not guest.hear(message):
            guest.report = message
            self._kill(guest)

    def _fail(self, guest: Guest, error: ContainerError) -> None:
        """Let a container end that the launcher cannot go on with. What it reports itself counts before ``error``."""
        guest.failure = guest.failure or error_message(error)
        if guest.channel is not None:
            guest.channel.shutdown(_socket.SHUT_WR)

    def _on_exit(self, guest: Guest) -> None:
        while guest.channel is not None:
            self._on_channel(guest)
        joins = self._joins.pop(guest.name, None)
        if joins is not None:
            joins.close()
        _pid, status = os.waitpid(guest.pid, 0)
        self._loop.unwatch(guest.pidfd)
        os.close(guest.pidfd)
        del self._all[guest.name]
        for companion in guest.companions:
            self._kill(companion)
        if guest.beside is not None:
            from containers import companions

            guest.beside.companions.remove(guest)
            companions.clear(self._session, guest)
        if guest in self._waiting:
            self._waiting.remove(guest)
        if guest in self._spares:
            self._spares.remove(guest)
            self._kinds.discard(guest.network)  # not again and again: whoever needs one will be told why there is none
        if guest.made and guest.upper is not None:
            stubs.remove(guest.upper, guest.made)
        if guest.client is not None and guest.request is not None and guest.was_killed_as_spare(status):
            client, (spec, fds) = guest.client, guest.request
            guest.client = guest.request = None
            self._loop.unwatch(client.fileno())
            self.start(client, spec, fds)
        _drop_request(guest)
        if guest.client is not None:
            exceeded = self._session.exceeded(guest.name) if guest.limited or status or guest.status else []
            reply(guest.client, guest.outcome(status, exceeded))
            self._forget_client(guest)
        self._session.doom(guest.name)

    def _forget_client(self, guest: Guest) -> None:
        if guest.client is not None:
            self._loop.unwatch(guest.client.fileno())
            guest.client.close()
            guest.client = None

    def _kill(self, guest: Guest) -> None:
        guest.signal(syscalls.SIGKILL)
        self._session.kill(guest.name)


def reply(client: _socket.socket, value: object, fds: list[int] | tuple[int, ...] = ()) -> None:
    """Answer a client, who may be gone; its container then ends by the end of its socket."""
    try:
        wire.send(client, value, fds)
    except (BrokenPipeError, ConnectionResetError):
        return


def _attach(guest: Guest, segment_fd: int, address: str) -> None:
    """Put a container into a segment. Raises ContainerError, OSError."""
    from containers import segment

    netns = os.open(f"/proc/{guest.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        segment.attach(segment_fd, netns, address)
    finally:
        os.close(netns)


def _refused(what: str, error: OSError) -> ContainerError:
    return ContainerError(f"{what}: {error}", hint=hint_if_out_of_files(error))


def _drop_request(guest: Guest) -> None:
    """Drop what is not needed any more: a pipe in it would stay open."""
    if guest.request is not None:
        close_all(guest.request[1])
        guest.request = None
