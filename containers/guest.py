"""One container as the launcher sees it: its first process, and what the client learns of its end."""

from __future__ import annotations

import os

from containers import stubs, syscalls
from containers.errors import ContainerError
from containers.limits import too_little_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any


class Guest:
    """A container's first process, from before its spec is known until it has been reaped.

    channel: to its set-up code, None after execve; where an init stays, until that has ended.
    client: the socket to whoever asked for it; None for a spare one.
    was_spare: it was made before anybody asked.
    request: the spec and its descriptors, until the command is being executed.
    connected: whether its interface was made.
    limited, memory_bytes: whether it has limits; the limit of memory, 0 for none.
    message: why the command could not be executed.
    is_told: the client knows that the command has begun.
    status: of the command, as of waitpid, where an init has reaped it; else its own is the command's.
    made: what set-up had to put into the upper layer.
    beside: the container that it accompanies.
    companions: those that accompany it.

    The client learns why there is no container, or how it ended, only when the process has ended: by then all that it
    had to say has come. The first of these counts:

    report: what its set-up code said itself.
    executing: it got to the command, so its end is the command's. Only ``lost`` counts before that: the network of a
        command that failed had ended.
    killed: the client asked for the end.
    failure: why the launcher could not go on with it, and let it end.
    """

    __slots__ = (
        "beside",
        "channel",
        "client",
        "companions",
        "connected",
        "executing",
        "failure",
        "is_told",
        "killed",
        "limited",
        "lost",
        "made",
        "memory_bytes",
        "message",
        "name",
        "network",
        "pid",
        "pidfd",
        "report",
        "request",
        "status",
        "upper",
        "was_spare",
    )

    def __init__(self, name: str, pid: int, pidfd: int, channel: _socket.socket, kind: str) -> None:
        self.name = name
        self.beside: Guest | None = None
        self.companions: list[Guest] = []
        self.pid = pid
        self.pidfd = pidfd
        self.channel: _socket.socket | None = channel
        self.network = kind
        self.connected = False
        self.limited = False
        self.memory_bytes = 0
        self.client: _socket.socket | None = None
        self.request: tuple[Any, list[int]] | None = None
        self.message = ""
        self.upper: str | None = None
        self.made: list[stubs.Stub] = []
        self.report: tuple[Any, ...] | None = None
        self.failure: tuple[Any, ...] | None = None
        self.lost: tuple[Any, ...] | None = None
        self.executing = False
        self.is_told = False
        self.status: int | None = None
        self.killed = False
        self.was_spare = False

    def outcome(self, status: int, exceeded: list[str]) -> tuple[Any, ...]:
        """The message that the client gets at the end. status: as of waitpid. exceeded: see ``limits.exceeded``."""
        if self.report is not None:
            return self.report
        if self.executing:
            status = status if self.status is None else self.status
            if self.lost is not None and status and not self.killed:
                return self.lost
            return ("exit", status, self.message, exceeded)
        code = os.waitstatus_to_exitcode(status)
        if self.failure is not None and code >= 0:
            return self.failure
        return error_message(self._death(code, exceeded))

    def was_killed_as_spare(self, status: int) -> bool:
        """Whether another one can take its place: it was a spare one, the first victim when memory runs out, and was
        killed.

        A failure of ours says nothing against that: a process that is being killed closes its channel before it ends.
        """
        untold = self.report is None and not self.executing
        return self.was_spare and untold and os.WIFSIGNALED(status)

    def hear(self, message: Any) -> bool:
        """Take what set-up or an init says of itself; False: the message asks something of who reads it."""
        if message[0] == "exit":
            self.message = message[2]
        elif message[0] == "made":
            self.made = message[1]
        elif message[0] == "executing":
            self.executing = True
        elif message[0] == "ended":
            self.status = message[1]
        else:
            return False
        return True

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when it has ended."""
        try:
            syscalls.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def _death(self, code: int, exceeded: list[str]) -> ContainerError:
        """The error of a process that ended before the command, without a word."""
        if "memory" in exceeded:
            return too_little_memory(self.memory_bytes)
        if code < 0:
            return ContainerError(
                f"the set-up of the container was ended by signal {-code}",
                hint="signal 9 is what the kernel sends when this machine runs out of memory" if code == -9 else None,
            )
        return ContainerError(f"the set-up of the container ended with code {code}")


def error_message(error: ContainerError) -> tuple[str, str, str, str | None]:
    """An error as the client gets it."""
    return ("error", type(error).__name__, error.message, error.hint)
