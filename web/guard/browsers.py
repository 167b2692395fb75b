"""Browsers that a user has signed in with before: wrong passwords from elsewhere do not close the way in for these.

A cookie marks such a browser: sealed with the service's key, for one user, for half a year. The cookie opens nothing;
attempts with it are bounded apart from everybody else's.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from typing import TYPE_CHECKING, Final

import msgspec
from flask import Response, request

from pipelines.errors import SecretError

if TYPE_CHECKING:
    from pipelines.service import Service

COOKIE: Final = "shiplap_browser"
_LIFETIME_S: Final = 180 * 86400
_PURPOSE: Final = "known browser"
_MAX: Final = 1000


class _Known(msgspec.Struct, frozen=True):
    """A browser in which somebody has signed in before.

    user: who signed in.
    browser: a random name for this browser.
    until: seconds since the epoch.
    """

    user: str
    browser: str
    until: float


def remember(service: Service, response: Response, user: str) -> None:
    """Mark the browser as one that the user has signed in with."""
    known = _Known(user, secrets.token_urlsafe(12), time.time() + _LIFETIME_S)
    text = base64.urlsafe_b64encode(service.secrets.seal(_PURPOSE, msgspec.json.encode(known))).decode()
    response.set_cookie(
        COOKIE, text, max_age=_LIFETIME_S, httponly=True, samesite="Lax", secure=request.is_secure, path="/"
    )


def known_browser(service: Service, user: str) -> str:
    """The name of this browser, if ``user`` signed in with it before; empty otherwise."""
    text = request.cookies.get(COOKIE, "")
    if not text or len(text) > _MAX:
        return ""
    try:
        data = service.secrets.unseal(_PURPOSE, base64.urlsafe_b64decode(text.encode()))
    except (SecretError, binascii.Error, ValueError):
        return ""
    known = msgspec.json.decode(data, type=_Known)
    return known.browser if known.user == user and known.until > time.time() else ""
