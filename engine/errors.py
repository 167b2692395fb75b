"""What can go wrong with containers as things with names. The messages are docker's where docker has one.

(ShiplapError)
└── EngineError
    ├── NotFoundError
    │   ├── ContainerNotFoundError
    │   ├── NoSuchImageError
    │   ├── ExecNotFoundError
    │   ├── NetworkNotFoundError
    │   ├── PathNotFoundError
    │   └── VolumeNotFoundError
    ├── ConflictError
    │   ├── NameInUseError
    │   └── NetworkRefusedError
    ├── InvalidRequestError
    │   └── NotDoneError
    ├── UnchangedError
    ├── KeeperGoneError
    └── RecordsError
"""

from __future__ import annotations

from core.errors import ShiplapError


class EngineError(ShiplapError):
    """The root of this room's errors."""


class NotFoundError(EngineError):
    """Nothing has this name or ID."""


class ContainerNotFoundError(NotFoundError):
    """No container has this name or ID, or several IDs begin so."""

    def __init__(self, ref: str) -> None:
        super().__init__(f"No such container: {ref}")


class NoSuchImageError(NotFoundError):
    """The image is not in the store."""


class ExecNotFoundError(NotFoundError):
    """No exec has this ID."""


class NetworkNotFoundError(NotFoundError):
    """No network has this name or ID."""


class PathNotFoundError(NotFoundError):
    """A container has nothing at this path."""


class VolumeNotFoundError(NotFoundError):
    """No volume has this name."""


class ConflictError(EngineError):
    """The thing is in a state, or in a use, that does not allow what was asked for."""


class NameInUseError(ConflictError):
    """Another container has the name."""


class NetworkRefusedError(ConflictError):
    """A network is predefined, or has places of containers, and so is not to be changed like that."""


class InvalidRequestError(EngineError):
    """What was asked for contradicts itself, or is no such thing."""


class NotDoneError(InvalidRequestError):
    """Docker has what was asked for; this engine does not do it, and says why."""


class UnchangedError(EngineError):
    """The thing is as it was asked to become."""


class KeeperGoneError(EngineError):
    """A container's keeper ended while it was being spoken to."""


class RecordsError(EngineError):
    """``engine.db`` cannot be read or written."""
