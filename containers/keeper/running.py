"""One run of a container's command: from its first process, which is told what to become, to that process's end.

``Life`` has one after another. What a run comes to is told in two words: ``begun``, when the command is being executed,
and ``over``, with what its first process left.
"""

from __future__ import annotations

import os

from containers import stubs, wire
from containers.errors import ContainerError, NetworkError
from containers.joining import Joins
from containers.keeper.cell import refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from containers.guest import Guest
    from containers.keeper.cell import Cell
    from containers.keeper.loop import Loop
    from containers.keeper.place import Place
    from containers.keeper.relay import Relay


class Run:
    """What runs of a container.

    guest: its first process, of ``Place.take``.
    spec: ``spec.json``.
    told: of ``specs.to_wire``.

    begun: called once, when its command is being executed; ``joins`` is there from then on.
    over: called once, when the first process was reaped: its status as of waitpid, and the limits that it ran into.
    """

    def __init__(
        self,
        loop: Loop,
        cell: Cell,
        place: Place,
        relay: Relay,
        guest: Guest,
        spec: dict[str, Any],
        told: dict[str, Any],
        begun: Callable[[], None],
        over: Callable[[int, list[str]], None],
    ) -> None:
        self._loop = loop
        self._cell = cell
        self._place = place
        self._relay = relay
        self.guest = guest
        self._spec = spec
        self._told = told
        self._tell_begun = begun
        self._tell_over = over
        self._stdio: list[int] = []
        self._is_over = False
        self.joins: Joins | None = None
        guest.upper = None if told["upper"] is None else f"{told['upper']}/fs"

    def start(self) -> None:
        """Have the first process go on when its network is there."""
        guest, problem = self.guest, None
        try:
            self._place.bind(self._spec, self._told)
        except ContainerError as error:
            problem = error
        self._loop.watch(guest.pidfd, self._on_exit)
        if guest.channel is not None:
            self._loop.watch(guest.channel.fileno(), self._on_channel)
        if problem is None and self._told["network"] == "default":
            try:
                self._cell.connected(self._order)
            except NetworkError as error:
                self._order(error)
        else:
            self._order(problem)

    def _order(self, error: ContainerError | None) -> None:
        """The network is there, or will not be: have the first process go on, or end."""
        guest = self.guest
        if self._is_over or guest.channel is None:
            return
        if error is None:
            self._stdio = self._relay.open(has_input=self._has_input)
            try:
                resolv_conf = self._place.connect(guest, self._spec, self._told)
                self._cell.order(guest, self._told, self._stdio, resolv_conf)
                return
            except ContainerError as refusal:
                error = refusal
            except OSError as failure:
                error = refused("cannot start the container", failure)
        guest.failure = guest.failure or ("error", type(error).__name__, error.message, error.hint)
        guest.channel.shutdown(1)

    @property
    def _has_input(self) -> bool:
        return bool(self._spec["process"].get("stdin_open"))

    def _on_channel(self) -> None:
        """Take what set-up has to say, and an init after it."""
        guest = self.guest
        assert guest.channel is not None
        received = wire.receive(guest.channel)
        if received is None:
            self._loop.unwatch(guest.channel.fileno())
            guest.channel.close()
            guest.channel = None
            self._begun()
            return
        message: Any = received[0]
        if message[0] == "terminal":
            self._relay.set_terminal(received[1][0], has_input=self._has_input)
        elif message[0] == "begun":
            self._begun()
        elif not guest.hear(message):
            guest.report = message
            self._cell.kill(guest)

    def _begun(self) -> None:
        """The command is being executed, if it is."""
        guest = self.guest
        if not guest.executing or guest.report is not None or guest.message or guest.is_told:
            return
        guest.is_told = True
        self._drop_stdio()
        self.joins = Joins(self._loop, self._cell.births, self._cell.session, guest, self._loop.later)
        self._tell_begun()

    def _on_exit(self) -> None:
        guest = self.guest
        while guest.channel is not None:
            self._on_channel()
        self._is_over = True
        self._loop.unwatch(guest.pidfd)
        exceeded = self._cell.session.exceeded(guest.name)
        if self.joins is not None:
            self.joins.close()
        self._place.clear(guest, self._spec)
        status = self._cell.reap(guest)
        self._drop_stdio()
        self._place.leave(for_good=False)
        if guest.made and guest.upper is not None:
            stubs.remove(guest.upper, guest.made)
        self._tell_over(status, exceeded)

    def _drop_stdio(self) -> None:
        """The process has its own copies; with ours its pipes would never end."""
        stdio, self._stdio = self._stdio, []
        for fd in stdio:
            os.close(fd)
