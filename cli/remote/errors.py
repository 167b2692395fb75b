"""Every error about a build service: one tree below ``RemoteError``.

(ShiplapError)
└── RemoteError
    ├── NoServerError
    ├── UnreachableServerError
    ├── ServerError
    ├── RunLostError
    ├── RemoteBuildError
    └── RemoteCancelledError
"""

from __future__ import annotations

from core.errors import ShiplapError
from core.events import StepInfo


class RemoteError(ShiplapError):
    """Something is wrong with a build service, or with what we know of it."""


class NoServerError(RemoteError):
    """A command needs a server and none was named."""


class UnreachableServerError(RemoteError):
    """Nobody answers there, or the connection broke."""


class ServerError(RemoteError):
    """The server refused.

    status: of HTTP.
    code: the API's; "" when the answer came from something else.
    """

    def __init__(self, message: str, *, hint: str | None, status: int, code: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class RunLostError(RemoteError):
    """A run did not end as runs do: an error of the service, not of the build."""


class RemoteBuildError(RemoteError):
    """A build failed on the server. step: the one that failed. output_tail: the end of what it printed."""

    def __init__(self, rendered: str, step: StepInfo | None, output_tail: bytes) -> None:
        super().__init__(rendered)
        self.step = step
        self.output_tail = output_tail

    def render(self) -> str:
        """The error as the server's builder wrote it: with place, Dockerfile lines and hint."""
        return self.message


class RemoteCancelledError(RemoteError):
    """The run that was followed was cancelled.

    exit_code: 128 + the signal that asked for it; 130 where somebody else cancelled the run.
    """

    def __init__(self, message: str, *, exit_code: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
