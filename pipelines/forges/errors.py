"""What can be wrong with a forge's request."""

from __future__ import annotations

from pipelines.errors import PipelineError


class WebhookError(PipelineError):
    """A request that is no webhook of a forge that we know, or not in its form."""


class MissingSignatureError(WebhookError):
    """A request without signature or token."""


class WrongSignatureError(WebhookError):
    """The signature was made with another secret, or for another body."""
