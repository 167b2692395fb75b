"""What a launcher's client asks of a container that runs: a process in it, or whether somebody listens there."""

from __future__ import annotations

import os

from containers import syscalls, wire
from containers.errors import ContainerError, NotExecutedError
from containers.guest import error_message
from containers.joining import Joined, Joins

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from containers.events import Loop

_LISTENING = {"tcp": "0A", "udp": "07"}
"""The state of a socket that takes what comes to its port.  proc_net_tcp(5)"""

_LOOPBACK = ("7F", "00000000000000000000000001000000")
"""How addresses end, or are, that only the container itself reaches; IPv4's bytes are in the other order."""


class Joiner:
    """A process that a client had join a container. Its output goes to the client's own descriptors, or its terminal.

    client: closing it kills the process. It gets what it would get of a container: ``started`` or an error, and
        ``exit``.
    stdio: the process's, unless it has a terminal.
    terminal: none that is kept here.
    """

    terminal = -1

    def __init__(self, loop: Loop, joins: Joins, client: _socket.socket, stdio: list[int]) -> None:
        self._loop = loop
        self._joins = joins
        self._client: _socket.socket | None = client
        self._stdio = stdio
        self._joined = Joined(self, self._started, self._over)
        loop.watch(client.fileno(), self._on_client)

    def start(self, spec: Any) -> None:
        """Have it join, once. spec: as ``spec.to_wire`` makes it."""
        try:
            self._joins.start(self._joined, spec, self.open(has_input=True))
        except ContainerError as error:
            self._started(error)

    def open(self, *, has_input: bool) -> list[int]:  # noqa: ARG002 - as ``joining.Streams``
        """The process's descriptors, which the caller closes."""
        return self._stdio

    def set_terminal(self, master: int, *, has_input: bool) -> None:  # noqa: ARG002 - as ``joining.Streams``
        """The client has the other end from before it is told that the command runs."""
        self._tell(("terminal",), [master])
        os.close(master)

    def process_ended(self) -> None:
        """The client has its output."""

    def let_go(self, why: str) -> None:
        """Nobody is to be let go."""

    def _on_client(self) -> None:
        assert self._client is not None
        received = wire.receive(self._client)
        message: Any = ("kill",) if received is None else received[0]
        self._joined.signal(syscalls.SIGKILL if message[0] == "kill" else message[1])
        if received is None:
            self._let_client_go()

    def _started(self, error: ContainerError | None) -> None:
        if error is None:
            self._tell(("started",))
        elif isinstance(error, NotExecutedError):
            self._tell(("started",))
            self._tell(("exit", error.code << 8, error.message, []))
            self._let_client_go()
        else:
            self._tell(error_message(error))
            self._let_client_go()

    def _over(self, code: int) -> None:
        self._tell(("exit", code << 8, "", []))
        self._let_client_go()

    def _tell(self, message: object, fds: list[int] | tuple[int, ...] = ()) -> None:
        if self._client is None:
            return
        try:
            wire.send(self._client, message, fds)
        except (BrokenPipeError, ConnectionResetError):
            return

    def _let_client_go(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._loop.unwatch(client.fileno())
            client.close()


def is_listening(pid: int, protocol: str, port: int) -> bool:
    """Whether something in a process's network namespace takes what others send to a port. protocol: tcp or udp.

    Nothing is connected: whoever listens sees nothing of it.
    """
    wanted = f"{port:04X}"
    for name in (protocol, f"{protocol}6"):
        for line in _lines(f"/proc/{pid}/net/{name}"):
            fields = line.split()
            address, _, number = fields[1].rpartition(":")
            if number == wanted and fields[3] == _LISTENING[protocol] and not address.endswith(_LOOPBACK):
                return True
    return False


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.readlines()[1:]
    except OSError:  # the process has ended, or the kernel has no IPv6
        return []
