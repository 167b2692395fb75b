"""Access: who asks, and what that client may do. Whatever reveals that something exists needs a right.

Without users the server is open where the settings say so. Otherwise: Basic credentials (password or access token), an
access token as Bearer, or a Bearer token of ``/v2/token``: its scope counts as far as the user's present rights go.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

from registry.errors import ErrorCode
from registry.server.attempts import Attempts
from registry.server.errors import CredentialsNeededError, SpecError
from registry.server.names import is_name
from registry.server.settings import ServerSettings
from registry.server.tokens import Claims, Scope, TokenSigner
from registry.server.users import ACTIONS, EVERYONE, TOKEN_PREFIX, Grant, Login, Users

_CATALOG: Final = "catalog"


Advise: TypeAlias = Callable[[str, str], str]


class Right(Protocol):
    """What somebody may do in some repositories: a ``Grant``, or what the program around the registry has instead."""

    def covers(self, repository: str, action: str) -> bool:
        """Whether it allows this action there."""


@dataclass(frozen=True, slots=True)
class _Own:
    """A right by the registry's own users and settings: it says nothing of hidden repositories.

    Nor does it, where there are such, of the local store, which has their content, too.
    """

    right: Right
    settings: ServerSettings

    def covers(self, repository: str, action: str) -> bool:
        is_ours = self.settings.is_hidden(repository) or (bool(self.settings.hidden) and not repository)
        return not is_ours and self.right.covers(repository, action)


@dataclass(frozen=True, slots=True)
class Client:
    """Whoever sent a request.

    trusted: everything is open.
    claims: of a Bearer token; they bound rights.
    advise: gives what to do about a right that is missing, by repository and action.
    """

    user: str = EVERYONE
    grants: tuple[Right, ...] = ()
    limit: Grant | None = None
    claims: Claims | None = None
    trusted: bool = False
    advise: Advise | None = None

    @property
    def is_known(self) -> bool:
        return self.trusted or self.user != EVERYONE or self.claims is not None

    def has_right(self, repository: str, action: str) -> bool:
        """By the user's own rights, whatever the token covers."""
        if self.trusted:
            return True
        if self.limit is not None and not self.limit.covers(repository, action):
            return False
        return any(grant.covers(repository, action) for grant in self.grants)

    def may(self, repository: str, action: str) -> bool:
        """Whether this request may do it."""
        if self.claims is not None and not self.claims.covers("repository", repository, action):
            return False
        return self.has_right(repository, action)


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who gets in without being a user of this registry. name: no user can have it. advise: as a Client's."""

    name: str
    grants: tuple[Right, ...]
    advise: Advise | None = None


class Accounts(Protocol):
    """Further accounts that get in, as the program around the registry knows them. Thread-safe."""

    def log_in(self, password: str) -> Account | None:
        """The account with this password (or Bearer token); None: nobody's."""

    def find(self, name: str) -> Account | None:
        """The account, with its present rights; None: there is none of this name, or no longer."""


class Gate:
    """Lets requests in: who sent one, and what they may do. Thread-safe."""

    def __init__(
        self,
        users: Users,
        signer: TokenSigner,
        settings: ServerSettings,
        attempts: Attempts,
        accounts: Accounts | None = None,
    ) -> None:
        self._users = users
        self._accounts = accounts
        self._attempts = attempts
        self._signer = signer
        self._settings = settings

    def is_open(self) -> bool:
        """Whether everyone may do everything, at this moment."""
        access = self._settings.access
        return access == "open" or (access == "open-until-users" and not self._users.exist())

    def check_host(self, host: str) -> None:
        """Raise SpecError 403 when a browser may have been led here.

        A page of another site, whose name was made to mean this machine (DNS rebinding), could use a registry that
        trusts whoever reaches it.

        host: the Host header.
        """
        name = host.rpartition(":")[0] or host if not host.endswith("]") else host
        if self._settings.access != "open-until-users" or not self.is_open() or _is_local_name(name):
            return
        raise SpecError(
            403,
            ErrorCode.DENIED,
            f"without users this registry answers to localhost and addresses only, not to {name[:100]!r}",
        )

    def identify(self, authorization: str, *, address: str, by_token: bool = True) -> Client:
        """The client whose request has this Authorization header ("" for none).

        address: where it came from. by_token=False: a signed token is no credential, because whoever has one with a
        small scope could get a larger one. Raises CredentialsNeededError, SpecError 429.
        """
        if self.is_open():
            return Client(trusted=True)
        if not authorization:
            return self._client(EVERYONE)
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "basic":
            return self.log_in(*_basic(value.strip()), address=address)
        if scheme.lower() == "bearer" and (by_token or value.strip().startswith(TOKEN_PREFIX)):
            return self._bearer(value.strip())
        raise CredentialsNeededError("unsupported authentication scheme")

    def log_in(self, user: str, password: str, *, address: str) -> Client:
        """Raises CredentialsNeededError, and SpecError 429 where that has happened too often."""
        if self._accounts is not None and (account := self._accounts.log_in(password)) is not None:
            return self._of_account(account)
        self._attempts.check(user, address)
        login = self._users.log_in(user, password)
        if login is None:
            self._attempts.failed(user, address)
            raise CredentialsNeededError("wrong user name or password")
        return self._client(login.user, login)

    def grant_token(self, client: Client, asked: list[Scope], service: str) -> tuple[str, float]:
        """A token for that part of what is asked that the client may do; and when it was issued."""
        granted = []
        for scope in asked:
            if scope.kind == "repository" and is_name(scope.name):
                wanted = ACTIONS if "*" in scope.actions else scope.actions
                actions = tuple(action for action in wanted if client.has_right(scope.name, action))
                granted.append(Scope("repository", scope.name, actions))
            elif scope.kind == "registry" and scope.name == _CATALOG:
                granted.append(scope)
        return self._signer.sign(Claims(client.user, tuple(granted)), audience=service)

    @property
    def token_lifetime_s(self) -> int:
        return self._signer.lifetime_s

    def require(self, client: Client, repository: str, action: str) -> None:
        """Raises SpecError 403 for a client without the right; 401 if (other) credentials may give it."""
        if client.may(repository, action):
            return
        scope = str(Scope("repository", repository, _usual(action)))
        if not client.is_known or client.user == EVERYONE or client.has_right(repository, action):
            raise CredentialsNeededError(scope=scope, error="insufficient_scope" if client.claims is not None else "")
        raise SpecError(
            403,
            ErrorCode.DENIED,
            f"requested access to the resource is denied: {client.user} may not {action} here"
            + (f"; {client.advise(repository, action)}" if client.advise is not None else ""),
            detail={"name": repository, "action": action},
        )

    def _bearer(self, token: str) -> Client:
        if token.startswith(TOKEN_PREFIX):
            if self._accounts is not None and (account := self._accounts.log_in(token)) is not None:
                return self._of_account(account)
            login = self._users.log_in_by_token(token)
            if login is None:
                raise CredentialsNeededError("unknown or expired access token")
            return self._client(login.user, login)
        claims = self._signer.verify(token)
        if claims is not None and self._accounts is not None and (account := self._accounts.find(claims.user)):
            return self._of_account(account, claims)
        if claims is None or (claims.user != EVERYONE and not self._users.is_user(claims.user)):
            raise CredentialsNeededError("invalid or expired token", error="invalid_token")
        return self._client(claims.user, claims=claims)

    def _of_account(self, account: Account, claims: Claims | None = None) -> Client:
        client = self._client(account.name, claims=claims, grants=account.grants)
        return replace(client, advise=account.advise)

    def _client(
        self,
        user: str,
        login: Login | None = None,
        *,
        claims: Claims | None = None,
        grants: tuple[Right, ...] | None = None,
    ) -> Client:
        """grants: an account's; None: those of the registry's user."""
        own: tuple[Right, ...] = (*self._users.grants(EVERYONE), *(self._users.grants(user) if grants is None else ()))
        if self._settings.anonymous_pull:
            own = (*own, Grant("*", frozenset({"pull"})))
        rights = (*(_Own(right, self._settings) for right in own), *(grants or ()))
        return Client(user, rights, login.limit if login else None, claims)


def _is_local_name(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _usual(action: str) -> tuple[str, ...]:
    """The actions that clients need together with ``action``: whoever pushes also asks what is there."""
    return {"push": ("pull", "push"), "delete": ("pull", "delete")}.get(action, (action,))


def _basic(value: str) -> tuple[str, str]:
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if not colon:
        raise CredentialsNeededError("malformed Basic credentials")
    return user, password
