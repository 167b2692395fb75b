"""Checks that a project's settings for its webhook can work."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pipelines.errors import InvalidRequestError
from pipelines.model import HookSettings
from pipelines.sources.filters import check_patterns
from pipelines.sources.git import parse_url

_ARG_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTEXT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/-]{0,29}")  # Bitbucket's key has 40, and "/pr" may follow


def check_hook(settings: HookSettings, local: Path | None = None) -> None:
    """Raises InvalidRequestError for settings that cannot work. local: see ``parse_url``."""
    if settings.repository:
        parse_url(settings.repository, local)
    elif settings.forge:
        raise InvalidRequestError("a webhook needs the repository's URL", hint="https://HOST/OWNER/NAME.git")
    for what, patterns in (("branches", settings.branches), ("tags", settings.tags), ("paths", settings.paths)):
        check_patterns(what, patterns)
    _check_path("context", settings.context)
    _check_path("file", settings.file or "")
    for name in settings.build_args:
        if not _ARG_NAME.fullmatch(name):
            raise InvalidRequestError(f"invalid name of a build argument: {name[:100]!r}")
    if not _CONTEXT.fullmatch(settings.status_context):
        raise InvalidRequestError(
            f"invalid status context {settings.status_context[:50]!r}", hint="at most 30 letters, digits and ' ._/-'"
        )
    if settings.api_url:
        _check_api(settings.api_url)
    if any("\0" in text for text in _texts(settings)):
        raise InvalidRequestError("a NUL character in the settings")


def _check_path(what: str, path: str) -> None:
    if path and (path.startswith("/") or posixpath.normpath(path).startswith("..")):
        raise InvalidRequestError(f"{what} {path[:100]!r} is not a path in the repository")


def _check_api(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or parts.username is not None or parts.query or parts.fragment:
        raise InvalidRequestError(f"invalid URL of an API: {url[:200]!r}", hint="https://HOST/PATH, without a password")


def _texts(settings: HookSettings) -> Sequence[str]:
    return [
        *settings.branches, *settings.tags, *settings.paths, *settings.build_args.values(), settings.file or "",
        settings.context, settings.target, settings.ssh_key, settings.known_hosts,
    ]  # fmt: skip
