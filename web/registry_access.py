"""API tokens open the registry, too: who may read may pull, who may build may push, an administrator may delete.

docker login sends an API token as the password, with any user name; others send it as a Bearer token. The rights are
those of the moment: a token that was revoked opens nothing any more, nor do the signed tokens that were got with it.
"""

from __future__ import annotations

from typing import Final

from pipelines.errors import TokenError
from pipelines.tokens import Token, Tokens
from registry.server.access import Account
from registry.server.users import ACTIONS, TOKEN_PREFIX, Grant

_ACTIONS: Final = {"read": ("pull",), "build": ("pull", "push"), "admin": ACTIONS}
_PREFIX: Final = "api-token/"  # no user of the registry has a slash in the name


class TokenAccounts:
    """The holders of API tokens, as the registry knows them: ``api-token/ID``. Thread-safe."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def log_in(self, password: str) -> Account | None:
        """None: it is no valid API token."""
        if not password.startswith(TOKEN_PREFIX):
            return None
        try:
            return _account(*self._tokens.identify(password))
        except TokenError:
            return None

    def find(self, name: str) -> Account | None:
        """None: it is none of ours, or the token is not valid any more."""
        number = name.removeprefix(_PREFIX)
        if number == name:
            return None
        try:
            return _account(*self._tokens.standing(int(number)))
        except TokenError:
            return None


def _account(token: Token, scope: str) -> Account:
    return Account(f"{_PREFIX}{token.id}", (Grant("*", frozenset(_ACTIONS[scope])),))
