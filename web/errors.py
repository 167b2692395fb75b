"""The errors of HTTP requests, each with its status. ``web.erroranswers`` has those of errors of the rooms below.

(ShiplapError)
└── RequestError
    ├── InvalidRequestError
    ├── NotFoundError
    ├── MethodNotAllowedError
    ├── UnauthenticatedError
    ├── ForbiddenError
    ├── MissingContextError
    ├── TooLargeError
    ├── UnsupportedTypeError
    ├── LengthRequiredError
    └── UnavailableError
"""

from __future__ import annotations

from core.errors import ShiplapError


class RequestError(ShiplapError):
    """The request cannot be answered. status: of HTTP. code: for programs; stable."""

    status = 400
    code = "bad_request"


class InvalidRequestError(RequestError):
    """Body, query or path do not have the form that the OpenAPI document describes."""

    status = 422
    code = "invalid_request"


class NotFoundError(RequestError):
    """There is nothing at this address."""

    status = 404
    code = "not_found"


class MethodNotAllowedError(RequestError):
    """There is something at this address, but it does not take this method."""

    status = 405
    code = "method_not_allowed"


class UnauthenticatedError(RequestError):
    """There is no token, or no valid one (any more)."""

    status = 401
    code = "unauthenticated"


class ForbiddenError(RequestError):
    """The token is valid, but lacks a scope."""

    status = 403
    code = "forbidden"


class MissingContextError(RequestError):
    """A run is to use a context that lacks files."""

    status = 409
    code = "context_missing"


class TooLargeError(RequestError):
    """The body is bigger than the service takes."""

    status = 413
    code = "too_large"


class UnsupportedTypeError(RequestError):
    """The body is not JSON, by its Content-Type."""

    status = 415
    code = "unsupported_media_type"


class LengthRequiredError(RequestError):
    """A blob's size must be known before it is taken."""

    status = 411
    code = "length_required"


class UnavailableError(RequestError):
    """Something that the service needs does not answer; the same request may succeed later."""

    status = 503
    code = "unavailable"
