"""What the server answers when it cannot do what was asked: a status, and a code of the distribution protocol.

(RegistryError)
├── ServerSettingsError
├── UserError
└── SpecError
    └── CredentialsNeededError

Source: distribution-spec "Error Codes". One that leaves a view becomes ``{"errors": [{code, message, detail}]}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.digests import Digest
from registry.errors import ErrorCode, RegistryError


class ServerSettingsError(RegistryError):
    """The server's settings contradict themselves, or would open it to everyone."""


class UserError(RegistryError):
    """A user, right or token cannot be made, changed or found."""


class SpecError(RegistryError):
    """An answer to a client. entries: further errors of the same answer, as (message, detail)."""

    def __init__(
        self,
        status: int,
        code: ErrorCode,
        message: str,
        *,
        detail: object = None,
        headers: Mapping[str, str] | None = None,
        entries: Sequence[tuple[str, object]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.entries = tuple(entries)

    def body(self) -> dict[str, object]:
        """The JSON document to send."""
        listed = self.entries or ((self.message, self.detail),)
        return {
            "errors": [
                {"code": self.code.value, "message": message} | ({} if detail is None else {"detail": detail})
                for message, detail in listed
            ]
        }


class CredentialsNeededError(SpecError):
    """401; the view adds the challenge, which names the server's own address. scope, error: for it; "" for none."""

    def __init__(self, message: str = "authentication required", *, scope: str = "", error: str = "") -> None:
        super().__init__(401, ErrorCode.UNAUTHORIZED, message, detail={"scope": scope} if scope else None)
        self.scope = scope
        self.error = error


def blob_unknown(digest: Digest) -> SpecError:
    return SpecError(404, ErrorCode.BLOB_UNKNOWN, "blob unknown to registry", detail={"digest": digest})


def manifest_unknown(reference: str) -> SpecError:
    return SpecError(404, ErrorCode.MANIFEST_UNKNOWN, "manifest unknown", detail={"reference": reference[:200]})


def name_unknown(name: str) -> SpecError:
    return SpecError(404, ErrorCode.NAME_UNKNOWN, "repository name not known to registry", detail={"name": name})


def upload_unknown() -> SpecError:
    return SpecError(404, ErrorCode.BLOB_UPLOAD_UNKNOWN, "blob upload unknown to registry: begin a new one")


def manifest_invalid(why: str) -> SpecError:
    return SpecError(400, ErrorCode.MANIFEST_INVALID, f"manifest invalid: {why}")


def digest_mismatch(expected: Digest, actual: Digest) -> SpecError:
    return SpecError(
        400,
        ErrorCode.DIGEST_INVALID,
        "provided digest did not match uploaded content",
        detail={"expected": expected, "actual": actual},
    )


def size_invalid(message: str) -> SpecError:
    return SpecError(400, ErrorCode.SIZE_INVALID, message)
