"""The JSON of errors, the same for every endpoint."""

from __future__ import annotations

import msgspec


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong.

    code: stable, for programs. message, hint: for people.
    """

    code: str
    message: str
    hint: str | None = None


class ErrorReply(msgspec.Struct, frozen=True):
    """What every answer with a status of 400 or more holds."""

    error: ErrorDetail
