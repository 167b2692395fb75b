"""Authentication of the API: by an API token, or by a page's session. ``web.guard.rights`` has the authorization."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from flask import g

from pipelines.accounts.users import SCOPES_OF
from pipelines.errors import TokenError
from registry.server.listening.vouching import vouch
from web.calls import Caller
from web.errors import UnauthenticatedError
from web.guard.cookies import session_text
from web.guard.csrf import check_csrf
from web.guard.gate import SAFE

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from pipelines.service import Service


def authenticate(service: Service, request: Request) -> Caller:
    """The caller. An Authorization header goes before a session. Raises UnauthenticatedError and ForbiddenError."""
    if "Authorization" in request.headers:
        return _by_token(service, request)
    text = session_text()
    found = service.sessions.find(text) if text else None
    if found is None:
        raise UnauthenticatedError("this needs an API token", hint=None)
    g.session, g.user = found
    vouch()
    if request.method not in SAFE:
        check_csrf(in_session=True)
    user = found[1]
    return Caller(user.name, SCOPES_OF[user.role], user.name, None, service.roles.of_user(user))


def authenticate_scraper(wanted: str, request: Request) -> None:
    """Check for the token that readers of metrics need; "": anybody may read. Raises UnauthenticatedError."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    known = scheme.lower() == "bearer" and hmac.compare_digest(text.strip().encode(), wanted.encode())
    if wanted and not known:
        raise UnauthenticatedError("this needs the token of SHIPLAP_METRICS_TOKEN", hint=None)


def _by_token(service: Service, request: Request) -> Caller:
    scheme, _, text = request.headers["Authorization"].partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise UnauthenticatedError("this needs an API token", hint=None)
    try:
        token = service.tokens.identify(text.strip())
    except TokenError as error:
        raise UnauthenticatedError(error.message, hint=error.hint) from error
    vouch()
    return Caller(token.name, token.scopes, token.owner, token, service.roles.of_token(token))
