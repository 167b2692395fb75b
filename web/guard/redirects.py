"""The page to go to after signing in: only a page of ours, whatever the address said."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

HOME: Final = "/"
_NOT_THERE: Final = ("/login", "/logout", "/welcome", "/oidc")


def same_origin(target: str) -> str:
    """``target`` when it is a path of this service, else the home page.

    Browsers take ``//host``, ``/\\host`` and paths with control characters for other sites.
    """
    if not target.startswith("/") or target.startswith(("//", "/\\")) or not target.isprintable() or "\\" in target:
        return HOME
    try:
        parts = urlsplit(target)
    except ValueError:
        return HOME
    if parts.scheme or parts.netloc or parts.path.startswith(_NOT_THERE):
        return HOME
    return target
