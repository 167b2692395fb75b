"""Who asks, and whether they may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.errors import ScopeError, TokenError
from web.errors import ForbiddenError, UnauthenticatedError

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from pipelines.tokens import Token, Tokens


def authenticate(tokens: Tokens, request: Request, scope: str) -> Token:
    """The token that the request carries. Raises UnauthenticatedError and ForbiddenError."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise UnauthenticatedError("this needs an API token", hint=None)
    try:
        return tokens.verify(text.strip(), scope)
    except ScopeError as error:
        raise ForbiddenError(error.message, hint=error.hint) from error
    except TokenError as error:
        raise UnauthenticatedError(error.message, hint=error.hint) from error
