"""The root of every error that Shiplap raises on purpose.

(Exception)
└── ShiplapError
    ├── SettingsError
    ├── InvalidReferenceError
    ├── StorageFullError
    ├── OutOfReachError
    ├── HostNotFoundError
    └── WebSocketError

Each package keeps one small tree below ``ShiplapError``. Errors are caught by type; only the outermost layer (CLI,
HTTP, worker) prints them, exits, or picks a status.
"""

from __future__ import annotations


class ShiplapError(Exception):
    """What failed, on what, expected against got; and, in ``hint``, what to do next.

    message: one line or a short block, without a trailing full stop being required.
    hint: the next step for the person who reads it, or None.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class SettingsError(ShiplapError):
    """An environment variable or option has a value that cannot be used."""


class InvalidReferenceError(ShiplapError):
    """A text is not an image reference or digest."""


class StorageFullError(ShiplapError):
    """The disk (or a quota) ran out while writing; nothing half-written was kept."""


class OutOfReachError(ShiplapError):
    """A host has an address that may not be connected to from here."""


class HostNotFoundError(ShiplapError):
    """A host's name has no address, or its name server does not answer."""


class WebSocketError(ShiplapError):
    """The other side does not speak the WebSocket protocol, or sends more than is taken at once."""
