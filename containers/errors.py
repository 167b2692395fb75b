"""What can go wrong with a container, by type. Names are what crosses the sockets of launcher and keepers.

(ShiplapError)
└── ContainerError
    ├── NamespaceError
    ├── MountError
    │   └── PlaceError
    ├── UserError
    ├── NetworkError
    ├── SeccompError
    ├── LimitError
    ├── LauncherError
    ├── KeeperError
    ├── NoAnswerError
    ├── StateError
    └── NotExecutedError
"""

from __future__ import annotations

from core.errors import ShiplapError


class ContainerError(ShiplapError):
    """A container could not be set up."""


class NamespaceError(ContainerError):
    """The kernel, or this process's privileges, do not allow the namespaces or mounts that isolation needs."""


class MountError(ContainerError):
    """A layer, a bind source or a mount point cannot be mounted."""


class PlaceError(MountError):
    """A place that was asked for does not fit the root filesystem: no fault of the machine's."""


class UserError(ContainerError):
    """The user or group that the process is to have does not exist in the root filesystem, or is not mapped."""


class NetworkError(ContainerError):
    """The network of a container cannot be made."""


class SeccompError(ContainerError):
    """The filter of system calls cannot be made, or is not accepted by the kernel."""


class LimitError(ContainerError):
    """This host cannot hold a container to a limit that was asked for."""


class LauncherError(ContainerError):
    """The launcher process ended, or could not be started."""


class KeeperError(ContainerError):
    """A keeper or the nursery ended, does not answer, or could not be started."""


class NoAnswerError(ContainerError, TimeoutError):
    """A keeper or the nursery is there, and has not answered in time. What was asked may still be done.

    It is a TimeoutError, too.
    """


class StateError(ContainerError):
    """A container is not in a state for what was asked: it does not run, it is paused already."""


class NotExecutedError(ContainerError):
    """The command cannot be executed. code: docker's exit code for it, 126 or 127."""

    code = 127


BY_NAME: dict[str, type[ContainerError]] = {
    kind.__name__: kind
    for kind in (
        ContainerError,
        NamespaceError,
        MountError,
        PlaceError,
        UserError,
        NetworkError,
        SeccompError,
        LimitError,
        LauncherError,
        KeeperError,
        NoAnswerError,
        StateError,
        NotExecutedError,
    )
}
