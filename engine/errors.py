"""What can go wrong with containers as things with names. The messages are docker's where docker has one.

(ShiplapError)
└── EngineError
    ├── NotFound
    │   ├── NoSuchContainer
    │   ├── NoSuchImage
    │   ├── NoSuchExec
    │   └── NoSuchVolume
    ├── Conflict
    │   └── NameInUse
    ├── InvalidRequest
    │   └── NotDone
    ├── Unchanged
    ├── KeeperGone
    └── RecordsError
"""

from __future__ import annotations

from core.errors import ShiplapError


class EngineError(ShiplapError):
    """The root of this room's errors."""


class NotFound(EngineError):
    """Nothing has this name or ID."""


class NoSuchContainer(NotFound):
    """No container has this name or ID, or several IDs begin so."""

    def __init__(self, ref: str) -> None:
        super().__init__(f"No such container: {ref}")


class NoSuchImage(NotFound):
    """The image is not in the store."""


class NoSuchExec(NotFound):
    """No exec has this ID."""


class NoSuchVolume(NotFound):
    """No volume has this name."""


class Conflict(EngineError):
    """The thing is in a state, or in a use, that does not allow what was asked for."""


class NameInUse(Conflict):
    """Another container has the name."""


class InvalidRequest(EngineError):
    """What was asked for contradicts itself, or is no such thing."""


class NotDone(InvalidRequest):
    """Docker has what was asked for; this engine does not do it, and says why."""


class Unchanged(EngineError):
    """The thing is as it was asked to become."""


class KeeperGone(EngineError):
    """A container's keeper ended while it was being spoken to."""


class RecordsError(EngineError):
    """``engine.db`` cannot be read or written."""
