"""Every error of the pipelines room: one tree below ``PipelineError``.

(ShiplapError)
└── PipelineError
    ├── SchemaError
    ├── DatabaseUnreachableError
    │   └── DatabaseDownError
    │       ├── DatabaseBusyError
    │       └── DatabaseFullError
    ├── QueueUnreachableError
    ├── InvalidRequestError
    ├── DeniedError
    ├── NotFoundError
    ├── ConflictError
    │   └── ArchivedError
    ├── WorkerSickError
    ├── LeftToOthersError
    ├── OutputsAwayError
    ├── StaleAttemptError
    ├── BareRepositoryError
    ├── TokenError
    ├── ScopeError
    ├── SignInError
    ├── LinkError
    ├── ThrottledError
    ├── SourceError
    │   └── SourceUnreachableError
    ├── UpstreamError
    ├── NothingToBuildError
    ├── SecretError
    └── BackupError
"""

from __future__ import annotations

from core.errors import ShiplapError, StorageFullError


class PipelineError(ShiplapError):
    """The root of this room's errors."""


class SchemaError(PipelineError):
    """The database's schema is not the one that this version works with."""


class DatabaseUnreachableError(PipelineError):
    """The database does not answer."""


class DatabaseDownError(DatabaseUnreachableError):
    """The database serves nobody: it is shut down, or starts, or is locked. Until it serves again nobody gets a run."""


class DatabaseBusyError(DatabaseDownError):
    """Somebody else holds the row for longer than anybody should. While it is held nobody else gets it; try again."""


class DatabaseFullError(DatabaseDownError, StorageFullError):
    """The database's disk is full. Whoever waits for it goes on when there is room again."""


class QueueUnreachableError(PipelineError):
    """Redis does not answer."""


class InvalidRequestError(PipelineError):
    """The request cannot be met: a malformed name, path, digest or option."""


class DeniedError(PipelineError):
    """The request is for something of another project. Says whose it is, and who can change that."""


class NotFoundError(PipelineError):
    """No run, project, secret or context of that name."""


class ConflictError(PipelineError):
    """The request does not fit the state that the run is in."""


class ArchivedError(ConflictError):
    """The project is archived: nothing new is taken for it."""


class WorkerSickError(PipelineError):
    """The worker takes nothing for now: run after run failed there by the machine's fault."""


class LeftToOthersError(PipelineError):
    """What waits is for the workers of another host first: they have what it needs."""


class OutputsAwayError(PipelineError):
    """What a job before this one made is neither on this host nor in the service's registry."""


class StaleAttemptError(PipelineError):
    """The run is no longer this attempt's: it was given to another worker, or has ended."""


class BareRepositoryError(PipelineError):
    """A bare repository beside the service cannot be made, or is not fit to be served."""


class TokenError(PipelineError):
    """No token, or one that is unknown, revoked or expired."""


class ScopeError(PipelineError):
    """A token that does not allow what it was used for."""


class SignInError(PipelineError):
    """Nobody can sign in with this name and password, or by this identity. Says no more than that.

    reason: what the administrator also learns, from log and audit; of a token's content only names.
    """

    def __init__(self, message: str, *, hint: str | None = None, reason: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason or message


class LinkError(PipelineError):
    """A one-time link that was used, has expired, or never was one."""


class ThrottledError(PipelineError):
    """Too many attempts. retry_after_s: when the next one is taken."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many attempts", hint=f"wait {retry_after_s} seconds")
        self.retry_after_s = retry_after_s


class SourceError(PipelineError):
    """The source of a run cannot be fetched, or must not be."""


class SourceUnreachableError(SourceError):
    """The server with the source of a run does not answer: the same may work later."""


class UpstreamError(PipelineError):
    """A build context cannot be fetched from the web process."""


class NothingToBuildError(PipelineError):
    """Nothing that the run is about has changed in the source."""


class SecretError(PipelineError):
    """A secret cannot be stored or read."""


class BackupError(PipelineError):
    """A backup cannot be made or restored."""
