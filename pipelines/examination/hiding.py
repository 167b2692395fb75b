"""Hides what is secret in the settings from what is told of a service."""

from __future__ import annotations

import contextlib
from urllib.parse import unquote, urlsplit

from core.masking import MIN_LENGTH, Masker, mask_user_information
from core.settings import ServiceSettings


class Hider:
    """Hides secrets in a text: those of the settings in every form, and whatever stands before @ in an address."""

    def __init__(self, secrets: set[str]) -> None:
        self._masker = Masker(secret.encode() for secret in secrets if len(secret.encode()) >= MIN_LENGTH)

    def __call__(self, text: str) -> str:
        return self._masker.mask(mask_user_information(text))


def hider(settings: ServiceSettings) -> Hider:
    """A hider of the tokens and passwords that the settings have."""
    secrets = {settings.web_token, settings.metrics_token}
    for url in (settings.database_url, settings.redis_url):
        with contextlib.suppress(ValueError):
            password = urlsplit(url).password or ""
            secrets |= {password, unquote(password)}
    with contextlib.suppress(OSError):
        secrets.add((settings.root / "serve" / "admin.token").read_text(encoding="utf-8").strip())
    return Hider(secrets - {""})
