"""Every error of the registry room: one tree below ``RegistryError``; and the error codes of the distribution protocol.

(ShiplapError)
└── RegistryError
    ├── RegistryConfigError
    ├── CredentialsError
    ├── UnreachableError
    ├── OutOfBoundsError
    ├── TlsError
    │   └── PlainHttpServerError
    ├── ResponseError
    │   ├── UnauthorizedError
    │   ├── DeniedError
    │   ├── NotFoundError
    │   └── RateLimitedError
    ├── InvalidResponseError
    ├── TransferBrokenError
    ├── TransferCancelledError
    ├── PlatformNotFoundError
    ├── LayerUnavailableError
    └── UnsupportedContentError

Source of the codes: distribution-spec "Error Codes", and distribution's own additions that clients have learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from core.errors import ShiplapError


class ErrorCode(StrEnum):
    """The ``code`` of an entry in a registry's ``{"errors": […]}``."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    SIZE_INVALID = "SIZE_INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"
    DENIED = "DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"
    # distribution's
    MANIFEST_UNVERIFIED = "MANIFEST_UNVERIFIED"
    PAGINATION_NUMBER_INVALID = "PAGINATION_NUMBER_INVALID"
    RANGE_INVALID = "RANGE_INVALID"
    TAG_INVALID = "TAG_INVALID"
    UNAVAILABLE = "UNAVAILABLE"
    UNKNOWN = "UNKNOWN"


class RegistryError(ShiplapError):
    """The root of this room's errors."""


# What users configure.


class RegistryConfigError(RegistryError):
    """``registries.json``, ``certs.d`` or a proxy setting cannot be used."""


class CredentialsError(RegistryError):
    """docker's ``config.json`` or a credential helper cannot be used, or has nothing where something is needed."""


# The client: on the way to a registry.


class UnreachableError(RegistryError):
    """No connection, or one that broke. connected: false when no request can have reached the server."""

    def __init__(self, message: str, *, connected: bool = False, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.connected = connected


class OutOfBoundsError(RegistryError):
    """The registry, or what it sends us to, has an address that this build may not connect to."""


class TlsError(RegistryError):
    """The server's certificate is not trusted, or TLS cannot be agreed on."""


class PlainHttpServerError(TlsError):
    """TLS was offered to a server that speaks plain HTTP."""


# The client: what a registry answered.


class ReportedError(NamedTuple):
    """An entry of ``{"errors": […]}``; code is as the server wrote it, which may be no ErrorCode."""

    code: str
    message: str


class ResponseError(RegistryError):
    """A registry refused a request.

    method, url (redacted), status: the request and what came back.
    reported: the body's entries, maybe none.
    retry_after_s: what the server asked for; None where it did not.
    """

    def __init__(
        self,
        message: str,
        *,
        method: str,
        url: str,
        status: int,
        reported: Sequence[ReportedError] = (),
        retry_after_s: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.method = method
        self.url = url
        self.status = status
        self.reported = tuple(reported)
        self.retry_after_s = retry_after_s

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (408, 429, 500, 502, 503, 504)

    def has_code(self, *codes: ErrorCode) -> bool:
        """Whether the server reported any of these codes."""
        return any(entry.code in codes for entry in self.reported)


class UnauthorizedError(ResponseError):
    """The registry wants a login.

    401: credentials are missing or not accepted.
    """


class DeniedError(ResponseError):
    """403, or a token that does not cover what was asked."""


class NotFoundError(ResponseError):
    """There is no such thing at the registry.

    404: the repository, manifest, blob or upload does not exist (or is hidden from this user).
    """


class RateLimitedError(ResponseError):
    """The registry wants fewer requests.

    429: too many requests.
    """


class InvalidResponseError(RegistryError):
    """A registry broke the protocol: wrong digest or size, no Location, JSON that is none, a manifest of over 4 MiB."""


class TransferBrokenError(RegistryError):
    """A transfer broke again and again without getting any further."""


class TransferCancelledError(RegistryError):
    """The caller cancelled."""


# The client: content.


class PlatformNotFoundError(RegistryError):
    """The image exists, but not for the platform that was asked for."""


class LayerUnavailableError(RegistryError):
    """A layer that was left at its registry is needed, and cannot be fetched."""


class UnsupportedContentError(RegistryError):
    """What has this name is no container image: an artifact, a schema 1 manifest, encrypted layers."""
