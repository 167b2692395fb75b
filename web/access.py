"""Who asks the API, and whether they may: by an API token, or by the session of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import g

from pipelines.errors import ScopeError, TokenError
from pipelines.tokens import allows
from pipelines.users import SCOPES_OF
from registry.server.listening.vouching import vouch
from web.calls import Caller
from web.errors import ForbiddenError, UnauthenticatedError
from web.guard.cookies import session_text
from web.guard.csrf import check_csrf
from web.guard.gate import SAFE

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from pipelines.service import Service


def authenticate(service: Service, request: Request, scope: str) -> Caller:
    """Who asks. An Authorization header goes before a session. Raises UnauthenticatedError and ForbiddenError."""
    if "Authorization" in request.headers:
        return _by_token(service, request, scope)
    text = session_text()
    found = service.sessions.find(text) if text else None
    if found is None:
        raise UnauthenticatedError("this needs an API token", hint=None)
    g.session, g.user = found
    vouch()
    if request.method not in SAFE:
        check_csrf(in_session=True)
    user, scopes = found[1], SCOPES_OF[found[1].role]
    if not allows(scopes, scope):
        raise ForbiddenError(f"{user.name} has the role {user.role}, which does not allow {scope}")
    return Caller(user.name, scopes, user.name, None)


def _by_token(service: Service, request: Request, scope: str) -> Caller:
    scheme, _, text = request.headers["Authorization"].partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise UnauthenticatedError("this needs an API token", hint=None)
    try:
        token = service.tokens.verify(text.strip(), scope)
    except ScopeError as error:
        raise ForbiddenError(error.message, hint=error.hint) from error
    except TokenError as error:
        raise UnauthenticatedError(error.message, hint=error.hint) from error
    vouch()
    return Caller(token.name, token.scopes, token.owner, token)
