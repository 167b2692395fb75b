"""API tokens: random, shown once, kept as hashes, with scopes and an end."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets as randomness
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection, Row

from core.files import write_atomically
from pipelines.accounts.users import SCOPES_OF
from pipelines.database import Database
from pipelines.errors import InvalidRequestError, NotFoundError, ScopeError, TokenError
from pipelines.schema import tokens, users

SCOPES: Final = ("read", "build", "admin")
"""Each includes those before it."""

_PREFIX: Final = "shp_"
_VALID: Final = (  # made once: each request of the API asks it
    select(tokens, users.c.role, users.c.disabled)
    .outerjoin(users, users.c.name == tokens.c.owner)
    .where(tokens.c.hash == bindparam("known"))
)
_NOTED_EVERY_S: Final = 60.0
_ADMINISTRATOR: Final = "administrator ("
WORKERS: Final = "workers (SHIPLAP_WEB_TOKEN)"
"""The name of the token that web process and workers get when they are set up."""


def allows(scopes: Iterable[str], scope: str) -> bool:
    """Whether one of ``scopes`` includes ``scope``."""
    return any(SCOPES.index(scope) <= SCOPES.index(own) for own in scopes)


class Token(msgspec.Struct, frozen=True):
    """A token without its secret. owner: the user it acts for, whose rights bound it; None for a robot's."""

    id: int
    name: str
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    owner: str | None = None

    def allows(self, scope: str) -> bool:
        return allows(self.scopes, scope)


class Tokens:
    """All tokens. Thread-safe. admin_file: where the first start on this root leaves an administrator's token."""

    def __init__(self, database: Database, admin_file: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._admin_file = admin_file
        self._clock = clock

    def create(
        self, name: str, scopes: Sequence[str], expires_in_s: float | None = None, *, owner: str | None = None
    ) -> tuple[Token, str]:
        """A new token, and its text, which is shown only now. Raises InvalidRequestError, NotFoundError.

        scopes: what the token may do in all projects.
        """
        if not scopes or set(scopes) - set(SCOPES):
            raise InvalidRequestError(f"invalid scopes {', '.join(scopes) or 'none'}", hint=f"one of {SCOPES}")
        return self._create(name, scopes, expires_in_s, owner)

    def create_without_scope(self, name: str, expires_in_s: float | None = None) -> tuple[Token, str]:
        """``create`` for a robot: its token may do nothing until it has a role in a project.

        ``pipelines.accounts.roles`` gives it one.
        """
        return self._create(name, (), expires_in_s, None)

    def _create(
        self, name: str, scopes: Sequence[str], expires_in_s: float | None, owner: str | None
    ) -> tuple[Token, str]:
        if not name.strip() or len(name) > 200 or "\0" in name:
            raise InvalidRequestError("a token needs a name of at most 200 characters")
        if expires_in_s is not None and not 0 < expires_in_s < 1e10:
            raise InvalidRequestError("a token expires after a positive number of seconds")
        text = _PREFIX + randomness.token_urlsafe(32)
        now = self._clock()
        values = {
            "name": name,
            "hash": _hash(text),
            "scopes": ",".join(sorted(set(scopes), key=SCOPES.index)),
            "created_at": now,
            "expires_at": None if expires_in_s is None else now + expires_in_s,
            "owner": owner,
        }
        with self._database.write() as connection:
            if owner is not None and not connection.execute(select(users.c.name).where(users.c.name == owner)).first():
                raise NotFoundError(f"there is no user {owner[:80]!r}")
            row = connection.execute(insert(tokens).values(values).returning(tokens)).one()
        return _from_row(row), text

    def adopt(self, name: str, text: str, scopes: Sequence[str]) -> None:
        """Let ``text`` be a token: one that was made elsewhere, where several processes are set up together."""
        values = {"name": name, "hash": _hash(text), "scopes": ",".join(scopes), "created_at": self._clock()}
        with self._database.write() as connection:
            if not connection.execute(select(tokens.c.id).where(tokens.c.hash == _hash(text))).first():
                connection.execute(delete(tokens).where(tokens.c.name == name, tokens.c.owner.is_(None)))
                connection.execute(insert(tokens).values(values))

    def verify(self, text: str, scope: str) -> Token:
        """The token that ``text`` is, if it allows ``scope``. Raises TokenError and ScopeError."""
        # The look-up is by hash, so its duration says nothing about the token.
        row = self._valid(_hash(text))
        token = _from_row(row)
        if not token.allows(scope):
            raise ScopeError(f"the token {token.name!r} allows {', '.join(token.scopes)}, this needs {scope}")
        if token.owner is not None and not allows(SCOPES_OF[row.role], scope):
            raise ScopeError(f"the token's owner, {token.owner}, has the role {row.role}, this needs {scope}")
        self._note_use(token)
        return token

    def identify(self, text: str) -> Token:
        """The token that ``text`` is; ``pipelines.accounts.roles`` knows what it may. Raises TokenError."""
        token = _from_row(self._valid(_hash(text)))
        self._note_use(token)
        return token

    def standing(self, known: str) -> Token:
        """``identify`` for a token that was identified before. known: its ``fingerprint``. Raises TokenError."""
        return _from_row(self._valid(known))

    def list(self, *, owner: str | None = None) -> list[Token]:
        """All tokens, or those of one user."""
        query = select(tokens).order_by(tokens.c.id)
        if owner is not None:
            query = query.where(tokens.c.owner == owner)
        with self._database.read() as connection:
            return [_from_row(row) for row in connection.execute(query)]

    def revoke(self, token_id: int, *, owner: str | None = None) -> None:
        """End a token. owner: only if it is this user's. Raises NotFoundError."""
        chosen = tokens.c.id == token_id
        if owner is not None:
            chosen &= tokens.c.owner == owner
        with self._database.write() as connection:
            if not connection.execute(delete(tokens).where(chosen)).rowcount:
                raise NotFoundError(f"there is no token {token_id}")

    def ensure_admin_file(self) -> Path:
        """Make sure that this root's file (mode 0600) has a valid token of an administrator; returns the file.

        Processes with other roots, or on other hosts, have tokens of their own in the same database: those stay.
        """
        if self._admin_file.exists():
            try:
                self.verify(self._admin_file.read_text().strip(), "admin")
            except (TokenError, ScopeError):
                pass  # the token is another database's, or was revoked: a new one takes its place
            else:
                return self._admin_file
        name = f"{_ADMINISTRATOR}{platform.node()}:{self._admin_file})"[-200:]
        _, text = self.create(name, ["admin"])
        write_atomically(self._admin_file, f"{text}\n".encode(), mode=0o600)
        with self._database.write() as connection:
            connection.execute(
                delete(tokens).where(tokens.c.name == name, tokens.c.owner.is_(None), tokens.c.hash != _hash(text))
            )
        return self._admin_file

    def _valid(self, known: str) -> Row[Any]:
        """The row with this hash, with its owner. Raises TokenError."""
        with self._database.read() as connection:
            row = connection.execute(_VALID, {"known": known}).first()
        if row is None:
            raise TokenError("the API token is not known", hint="shiplap login, or SHIPLAP_TOKEN")
        if row.expires_at is not None and row.expires_at <= self._clock():
            raise TokenError("the API token has expired", hint="ask for a new one")
        if row.disabled:
            raise TokenError(f"the API token's owner, {row.owner}, is disabled")
        return row

    def _note_use(self, token: Token) -> None:
        now = self._clock()
        if now - (token.last_used_at or 0.0) > _NOTED_EVERY_S:
            self._database.note(update(tokens).where(tokens.c.id == token.id).values(last_used_at=now))

    def sweep(self) -> None:
        """Forget tokens that expired more than a month ago."""
        before = self._clock() - 30 * 86400
        with self._database.write() as connection:
            connection.execute(delete(tokens).where(tokens.c.expires_at < before))


def installed(connection: Connection) -> list[dict[str, Any]]:
    """The tokens of the service's own machines: those in their files and in the workers' settings."""
    of_machines = tokens.c.name.startswith(_ADMINISTRATOR, autoescape=True) | (tokens.c.name == WORKERS)
    query = select(tokens).where(of_machines, tokens.c.owner.is_(None))
    return [dict(row) for row in connection.execute(query).mappings()]


def bring_back(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Make tokens that ``installed`` found valid again, in place of others with their names."""
    for row in rows:
        same = (tokens.c.name == row["name"]) & tokens.c.owner.is_(None)
        connection.execute(delete(tokens).where(same | (tokens.c.hash == row["hash"])))
        connection.execute(insert(tokens).values({name: value for name, value in row.items() if name != "id"}))


def fingerprint(text: str) -> str:
    """A short name for a token, which does not give it away and can be kept after it was shown."""
    return _hash(text)


def _hash(text: str) -> str:
    """Tokens have 256 random bits, so a plain hash is as good as a slow one."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def _from_row(row: Row[Any]) -> Token:
    scopes = tuple(scope for scope in row.scopes.split(",") if scope)
    return Token(row.id, row.name, scopes, row.created_at, row.expires_at, row.last_used_at, row.owner)
