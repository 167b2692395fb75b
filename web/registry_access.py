"""API tokens open the registry, too: whoever may build may push, whoever may read may pull.

The registry has users of its own. Two of them stand for the scopes of API tokens; a request with an API token, as
docker login sends it (any user name, the token as the password), goes on as one of these. Their passwords are new at
each start and known to nobody else. All other credentials are the registry's business.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pipelines.errors import ScopeError, TokenError
from registry.server.users import TOKEN_PREFIX, Users

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from pipelines.tokens import Tokens

_RIGHTS: Final = {"build": ("pull", "push"), "read": ("pull",)}


class RegistryAccess:
    """WSGI middleware around the registry's application."""

    def __init__(self, registry: WSGIApplication, tokens: Tokens, users: Users) -> None:
        self._registry = registry
        self._tokens = tokens
        self._credentials = {scope: _make_user(users, scope) for scope in _RIGHTS}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        token = _token(environ.get("HTTP_AUTHORIZATION", ""))
        scope = self._scope(token) if token else None
        if scope is not None:
            environ["HTTP_AUTHORIZATION"] = self._credentials[scope]
        return self._registry(environ, start_response)

    def _scope(self, token: str) -> str | None:
        """The larger scope that the token has; None when it is no API token of ours."""
        for scope in _RIGHTS:
            try:
                self._tokens.verify(token, scope)
            except ScopeError:
                continue
            except TokenError:
                return None
            return scope
        return None


def _make_user(users: Users, scope: str) -> str:
    """Make sure that the user is there; its Authorization header."""
    name, password = f"api-token-{scope}", secrets.token_urlsafe(32)
    users.set_password(name, password, new=not users.is_user(name))
    users.grant(name, "*", _RIGHTS[scope])
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _token(authorization: str) -> str | None:
    """What may be an API token: a Bearer token, or the password of Basic credentials."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    elif scheme.lower() != "bearer":
        return None
    return value.strip() if value.strip().startswith(TOKEN_PREFIX) else None
