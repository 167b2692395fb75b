"""The two cookies: a session's, and that of a visitor without one. CSRF tokens are bound to them."""

from __future__ import annotations

import secrets
from typing import Final

from flask import Response, g, request

from pipelines.accounts.sessions import LIFETIME_S

SESSION: Final = "shiplap_session"
VISIT: Final = "shiplap_visit"


def session_text() -> str:
    """The session cookie's value as it was sent; "" for none."""
    return request.cookies.get(SESSION, "")


def set_session(response: Response, text: str) -> None:
    """Sign the browser in. The visitor's cookie has served its purpose."""
    response.set_cookie(
        SESSION, text, max_age=int(LIFETIME_S), httponly=True, samesite="Lax", secure=request.is_secure, path="/"
    )
    response.delete_cookie(VISIT, path="/")


def clear_session(response: Response) -> None:
    response.delete_cookie(SESSION, httponly=True, samesite="Lax", secure=request.is_secure, path="/")


def visit_text() -> str:
    """The visitor cookie's value as it was sent; "" for none."""
    return request.cookies.get(VISIT, "")


def begin_visit() -> str:
    """The visitor cookie's value, made where there was none; ``send_visit`` then sends it with the answer."""
    text = visit_text() or g.get("new_visit")
    if not text:
        text = g.new_visit = secrets.token_urlsafe(32)
    return str(text)


def send_visit(response: Response) -> Response:
    """Set the cookie that ``begin_visit`` made. For ``after_request``."""
    text = g.get("new_visit")
    if text:
        response.set_cookie(VISIT, text, httponly=True, samesite="Strict", secure=request.is_secure, path="/")
    return response
