"""Tokens that show that a request comes from a page of ours.

A token is an HMAC keyed by a cookie's value, which other sites cannot read: nothing is stored. Before signing in the
cookie is the visitor's, so that nobody is signed in as somebody else unawares.
"""

from __future__ import annotations

import base64
import hmac
from typing import Final
from urllib.parse import urlsplit

from flask import g, request

from web.errors import ForbiddenError
from web.guard.cookies import begin_visit, session_text, visit_text

FIELD: Final = "_csrf"
HEADER: Final = "X-CSRF-Token"
_AMONG: Final = "csrf."
_HINT: Final = "load the page again, and repeat what you did"


def csrf_token() -> str:
    """A token for the browser that this page goes to."""
    key = session_text() if g.get("user") is not None else begin_visit()
    return _token(key)


def check_csrf(*, in_session: bool) -> None:
    """Raise ForbiddenError unless the request carries the token, and was not sent by a page of another site.

    in_session: whether the token is the session's; else it is the visitor's.
    """
    origin = request.headers.get("Origin", "")
    if origin and origin != "null" and _host_of(origin) != request.host:
        raise ForbiddenError("this request comes from a page of another site", hint=_proxy_hint(origin))
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise ForbiddenError("this request comes from a page of another site", hint=_HINT)
    key = session_text() if in_session else visit_text()
    sent = request.headers.get(HEADER) or request.form.get(FIELD, "")
    if not key or not hmac.compare_digest(sent.encode(errors="replace"), _token(key).encode()):
        raise ForbiddenError("this form has no valid token of this session", hint=_HINT)


def check_terminal() -> None:
    """Raise ForbiddenError unless a page of ours asks for a WebSocket, with its session's token.

    A page of any site may ask for one, with the browser's cookies; but which page asks, its browser says. A script can
    name no headers then, so the token is among the protocols, behind ``csrf.`` there.
    """
    origin = request.headers.get("Origin", "")
    if not origin or _host_of(origin) != request.host:
        raise ForbiddenError("this request comes from no page of this service", hint=_proxy_hint(origin or "nothing"))
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise ForbiddenError("this request comes from no page of this service", hint=_HINT)
    protocols = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    sent = next((each.removeprefix(_AMONG) for each in protocols if each.startswith(_AMONG)), "")
    key = session_text()
    if not key or not hmac.compare_digest(sent.encode(errors="replace"), _token(key).encode()):
        raise ForbiddenError("this page has no valid token of this session", hint=_HINT)


def _host_of(origin: str) -> str:
    """HOST[:PORT] of an Origin; empty for what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _token(key: str) -> str:
    digest = hmac.digest(key.encode(errors="surrogatepass"), b"shiplap csrf", "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _proxy_hint(origin: str) -> str:
    return f"a proxy in front of this service must pass the Host header on: we are {request.host}, not {origin[:200]}"
