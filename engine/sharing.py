"""Whose processes and whose System V IPC a container has: docker's PidMode and IpcMode.

Moby: daemon/container_operations_unix.go, getPIDContainer and getIPCContainer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from engine.errors import InvalidRequestError, NotDoneError
from engine.fields import Fields

_JOINED: Final = "container:"
_MODES: Final = ("NetworkMode", "IpcMode", "PidMode")
_HOST: Final = "host"


class Sharing(NamedTuple):
    """Each as ``spec.json`` has it.

    pid: "", or ``container:`` with a name or an ID.
    ipc: ``private``, ``shareable``, ``none`` (nor any /dev/shm), or as ``pid``.
    """

    pid: str
    ipc: str

    def resolved(self, identity_of: Callable[[str], str]) -> Sharing:
        """With IDs for names. identity_of: raises ContainerNotFoundError."""
        return Sharing(*(_resolved(mode, identity_of) for mode in self))


def read(body: Fields) -> Sharing:
    """Read a HostConfig's part. Raises InvalidRequestError, NotDoneError."""
    pid, ipc = body.text("PidMode"), body.text("IpcMode") or "private"
    if pid == _HOST:
        raise NotDoneError(
            "HostConfig.PidMode is refused: a container sees no process of the host's; --pid container:NAME shares"
            " another container's"
        )
    if pid not in ("", "private") and not _is_joined(pid):
        raise InvalidRequestError(f"invalid PID mode: {pid}")
    if ipc == _HOST:
        raise NotDoneError(
            "HostConfig.IpcMode is refused: a container reaches no memory of the host's processes; --ipc"
            " container:NAME shares that of another container, one that was made with --ipc shareable"
        )
    if ipc == _JOINED:
        raise InvalidRequestError('failed to join IPC namespace: invalid name or ID supplied: ""')
    if ipc not in ("private", "shareable", "none") and not _is_joined(ipc):
        raise InvalidRequestError(f"invalid IPC mode: {ipc}")
    return Sharing("" if pid == "private" else pid, ipc)


def joined(host: Any) -> dict[str, str]:
    """The containers that one is beside, by the mode that says so. host: docker's HostConfig."""
    modes = {name: str(host.get(name) or "") for name in _MODES}
    return {name: mode.removeprefix(_JOINED) for name, mode in modes.items() if _is_joined(mode)}


def _is_joined(mode: str) -> bool:
    return mode.startswith(_JOINED) and mode != _JOINED


def _resolved(mode: str, identity_of: Callable[[str], str]) -> str:
    return f"{_JOINED}{identity_of(mode.removeprefix(_JOINED))}" if _is_joined(mode) else mode
