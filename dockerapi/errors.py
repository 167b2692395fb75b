"""Docker's status for each error, and its words.

Clients read the status first: 404 of a create is "pull the image, and try again"; 304 is "it is so already".

(ShiplapError)
├── AddressError
└── ApiError
"""

from __future__ import annotations

from typing import Final

from containers.errors import ContainerError
from core.errors import InvalidReferenceError, ShiplapError
from dockerfile_grammar.errors import DockerfileError
from engine.errors import (
    ConflictError,
    InvalidRequestError,
    NetworkRefusedError,
    NoSuchImageError,
    NotFoundError,
    UnchangedError,
)
from images.errors import (
    AmbiguousImageError,
    CompressedDataError,
    ImageInUseError,
    ImageNotFoundError,
    InvalidArchiveError,
    InvalidLayerError,
)
from registry import errors as registry_errors


class AddressError(ShiplapError):
    """One cannot listen there."""


class ApiError(ShiplapError):
    """A request that is answered by an error of HTTP's. status: the number."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def bad(message: str) -> ApiError:
    """400: the request contradicts itself, or makes no sense."""
    return ApiError(400, message)


def not_done(message: str) -> ApiError:
    """501: docker has it, this engine does not do it."""
    return ApiError(501, message)


# The first that fits; a kind comes before its parents.
_STATUSES: Final[tuple[tuple[type[ShiplapError], int], ...]] = (
    (UnchangedError, 304),
    (NotFoundError, 404),
    (ImageNotFoundError, 404),
    (registry_errors.NotFoundError, 404),
    (NetworkRefusedError, 403),
    (ConflictError, 409),
    (ImageInUseError, 409),
    (InvalidRequestError, 400),
    (DockerfileError, 400),
    (InvalidReferenceError, 400),
    (InvalidArchiveError, 400),
    (InvalidLayerError, 400),
    (CompressedDataError, 400),
    (AmbiguousImageError, 400),
    (registry_errors.RegistryConfigError, 400),
    (registry_errors.UnauthorizedError, 401),
    (registry_errors.DeniedError, 403),
    # docker's client takes 400 with the runtime's words for its exit codes 126 and 127
    (ContainerError, 400),
)


def status_of(error: ShiplapError) -> int:
    """The HTTP status that tells of an error."""
    if isinstance(error, ApiError):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def message_of(error: ShiplapError) -> str:
    """What the client shows: one text. Docker's messages have no hints, ours come behind it."""
    if isinstance(error, (ImageNotFoundError, NotFoundError)):
        return error.message
    return f"{error.message} ({error.hint})" if error.hint else error.message


def of_create(error: ShiplapError) -> ShiplapError:
    """An error of a create. Docker's client pulls the image after a 404, so that only a missing image may be one."""
    if isinstance(error, NotFoundError) and not isinstance(error, NoSuchImageError):
        return bad(error.message)
    return error
