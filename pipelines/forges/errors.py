"""The errors of a forge's request.

(PipelineError)
├── WebhookError
│   ├── MissingSignatureError
│   └── WrongSignatureError
├── ForgeApiError
└── ForgeRefusalError
"""

from __future__ import annotations

from pipelines.errors import PipelineError


class WebhookError(PipelineError):
    """A request that is no webhook of a known forge, or not in that forge's form."""


class MissingSignatureError(WebhookError):
    """A request without signature or token."""


class WrongSignatureError(WebhookError):
    """The signature was made with another secret, or for another body."""


class ForgeApiError(PipelineError):
    """A forge's API does not take a request now. retry_after_s: when to ask again, if the forge says it."""

    def __init__(self, message: str, *, hint: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class ForgeRefusalError(PipelineError):
    """A forge's API refuses a request, and would refuse it again."""
