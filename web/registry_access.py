"""API tokens open the registry, too: who may read may pull, who may build may push, an administrator may delete.

docker login sends an API token as the password, with any user name; others send it as a Bearer token. The rights are
those of the moment: a token that was revoked opens nothing any more, nor do the signed tokens that were got with it.

Runs have tokens of their own, by which their workers pull and push what is their project's, as long as they run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipelines.errors import TokenError
from pipelines.ownership import is_cache
from pipelines.runtokens import RunRights
from pipelines.tokens import fingerprint
from registry.server.access import Account
from registry.server.users import ACTIONS, TOKEN_PREFIX

if TYPE_CHECKING:
    from pipelines.service import Service

_ACTIONS: Final = {"read": ("pull",), "build": ("pull", "push"), "admin": ACTIONS}
_PREFIX: Final = "api-token/"  # no user of the registry has a slash in the name
_RUN: Final = "run/"


class ServiceAccounts:
    """Who gets in by what the service knows: ``api-token/FINGERPRINT`` and ``run/NUMBER/FINGERPRINT``. Thread-safe.

    Not by the token's number, nor by the attempt's: after a restore, another one may have it.
    """

    def __init__(self, service: Service) -> None:
        self._tokens = service.tokens
        self._run_tokens = service.run_tokens

    def log_in(self, password: str) -> Account | None:
        """None: it is no token of ours that is valid."""
        if not password.startswith(TOKEN_PREFIX):
            return None
        rights = self._run_tokens.log_in(password)
        if rights is not None:
            return _run_account(rights)
        try:
            _, scope = self._tokens.identify(password)
        except TokenError:
            return None
        return _account(fingerprint(password), scope)

    def find(self, name: str) -> Account | None:
        """None: it is none of ours, or the token is not valid any more, or the attempt has ended."""
        kind, slash, rest = name.partition("/")
        if kind + slash == _RUN:
            run, _, known = rest.partition("/")
            rights = self._run_tokens.standing(int(run), known)
            return None if rights is None else _run_account(rights)
        if kind + slash != _PREFIX:
            return None
        try:
            _, scope = self._tokens.standing(rest)
        except TokenError:
            return None
        return _account(rest, scope)


def _run_account(rights: RunRights) -> Account:
    return Account(f"{_RUN}{rights.run}/{rights.known}", (rights,))


@dataclass(frozen=True, slots=True)
class _TokenRight:
    """What an API token allows. Build caches are written by runs, each its own domain's; and by administrators."""

    scope: str

    def covers(self, repository: str, action: str) -> bool:
        if action == "push" and is_cache(repository) and self.scope != "admin":
            return False
        return action in _ACTIONS[self.scope]


def _account(known: str, scope: str) -> Account:
    return Account(f"{_PREFIX}{known}", (_TokenRight(scope),))
