"""How somebody wants the pages to look: kept for the account, and in a cookie, so that the first paint is right."""

from __future__ import annotations

from typing import Final

from flask import Request, request
from werkzeug.wrappers import Response

from pipelines.accounts.preferences import Look

COOKIE: Final = "shiplap_look"
_LIFETIME_S: Final = 400 * 86400
_NO_KEYS: Final = "nokeys"
_DARK_LOG: Final = "darklog"


def look_of(asked: Request) -> Look:
    """The look that the browser's cookie says; words in it that mean nothing are passed over."""
    words = asked.cookies.get(COOKIE, "")[:100].split(".")
    return Look(
        theme="light" if "light" in words else "dark" if "dark" in words else "",
        density="compact" if "compact" in words else "",
        keys=_NO_KEYS not in words,
        log="dark" if _DARK_LOG in words else "",
    )


def send_look(response: Response, look: Look) -> None:
    """Have the browser keep this look. Scripts may change the cookie: it says nothing that matters."""
    chosen = (look.theme, look.density, "" if look.keys else _NO_KEYS, _DARK_LOG if look.log else "")
    words = [word for word in chosen if word]
    if words:
        response.set_cookie(
            COOKIE, ".".join(words), max_age=_LIFETIME_S, samesite="Lax", secure=request.is_secure, path="/"
        )
    else:
        response.delete_cookie(COOKIE, path="/")
