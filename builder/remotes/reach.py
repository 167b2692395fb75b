"""The bounds of ``core.reach``, with what they refuse as this room's errors."""

from __future__ import annotations

from builder.errors import FetchError, FetchUnreachableError
from core.errors import HostNotFoundError, OutOfReachError
from core.reach import Reach


def pinned(reach: Reach, host: str, port: int) -> str | None:
    """As ``Reach.pin``. Raises FetchError; when the host is not found, FetchUnreachableError."""
    try:
        return reach.pin(host, port)
    except HostNotFoundError as error:
        raise FetchUnreachableError(error.message, hint=error.hint) from error
    except OutOfReachError as error:
        raise FetchError(error.message, hint=error.hint) from error
