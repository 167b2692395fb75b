"""Whose fault an error is: the job's, or that of the machines, who may do better another time."""

from __future__ import annotations

from typing import Final

from builder.errors import ContextDamagedError, FetchUnreachableError
from containers.errors import ContainerError, PlaceError, UserError
from core.errors import StorageFullError
from registry.errors import ResponseError, UnreachableError

_MACHINES: Final = (ContainerError, ContextDamagedError, FetchUnreachableError, StorageFullError, UnreachableError)
_OF_THE_IMAGE: Final = (PlaceError, UserError)


def is_of_the_machine(error: BaseException | None) -> bool:
    """Whether the same job may succeed later or elsewhere. The causes behind an error count, too."""
    while error is not None:
        if isinstance(error, _MACHINES) and not isinstance(error, _OF_THE_IMAGE):
            return True
        if isinstance(error, ResponseError) and error.retryable:
            return True
        error = error.__cause__
    return False
