"""API tokens open the registry, too: who may read may pull, who may build may push, an administrator may delete.

docker login sends an API token as the password, with any user name; others send it as a Bearer token. The rights are
those of the moment: a token that was revoked opens nothing any more, nor do the signed tokens that were got with it.
"""

from __future__ import annotations

from typing import Final

from pipelines.errors import TokenError
from pipelines.tokens import Tokens, fingerprint
from registry.server.access import Account
from registry.server.users import ACTIONS, TOKEN_PREFIX, Grant

_ACTIONS: Final = {"read": ("pull",), "build": ("pull", "push"), "admin": ACTIONS}
_PREFIX: Final = "api-token/"  # no user of the registry has a slash in the name


class TokenAccounts:
    """The holders of API tokens, as the registry knows them: ``api-token/FINGERPRINT``. Thread-safe.

    Not by the token's number: after a restore, another token may have it.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def log_in(self, password: str) -> Account | None:
        """None: it is no valid API token."""
        if not password.startswith(TOKEN_PREFIX):
            return None
        try:
            _, scope = self._tokens.identify(password)
        except TokenError:
            return None
        return _account(fingerprint(password), scope)

    def find(self, name: str) -> Account | None:
        """None: it is none of ours, or the token is not valid any more."""
        known = name.removeprefix(_PREFIX)
        if known == name:
            return None
        try:
            _, scope = self._tokens.standing(known)
        except TokenError:
            return None
        return _account(known, scope)


def _account(known: str, scope: str) -> Account:
    return Account(f"{_PREFIX}{known}", (Grant("*", frozenset(_ACTIONS[scope])),))
