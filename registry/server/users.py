"""Users, their rights, and their access tokens: passwords for machines, which can be taken back one by one.

Passwords are kept as scrypt hashes (``core.passwords``), access tokens as sha256: they are random.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from core.passwords import DECOY, MIN_LENGTH, hash_password, password_fits
from images.store import Store
from registry.server.errors import UserError
from registry.server.rows import Rows
from registry.server.schema import prepare

ACTIONS: Final = ("pull", "push", "delete")
EVERYONE: Final = ""
RESERVED: Final = "everyone"  # what the command line calls EVERYONE
TOKEN_PREFIX: Final = "shp_"  # noqa: S105 - what access tokens begin with, so that scanners find them

_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights in the repositories whose names fit ``pattern`` (``*`` stands for anything, also for slashes)."""

    pattern: str
    actions: frozenset[str]

    def covers(self, repository: str, action: str) -> bool:
        return action in self.actions and fnmatchcase(repository, self.pattern)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What is known of an access token; its secret is shown once. expires_at: seconds since the epoch; None: never."""

    id: str
    user: str
    limit: Grant
    created_at: float
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class Login:
    """Whoever gave good credentials. limit: an access token's further bound on the user's rights; None: none."""

    user: str
    limit: Grant | None = None


class Users:
    """The users of a registry, with their rights and tokens. Thread-safe."""

    def __init__(self, rows: Rows, *, clock: Callable[[], float] = time.time) -> None:
        self._rows = rows
        self._clock = clock
        self._key = os.urandom(32)
        self._good: set[bytes] = set()  # of credentials that scrypt has accepted, with the hash that it was
        self._lock = threading.Lock()
        self._decoy = DECOY

    @classmethod
    def of(cls, store: Store) -> Users:
        """The users of a store's registry, for administration. The caller keeps the store open."""
        prepare(store.database)
        return cls(Rows(store))

    def exist(self) -> bool:
        """Whether there is any user."""
        return self._rows.one("SELECT 1 FROM registry_users LIMIT 1") is not None

    def names(self) -> list[str]:
        return [name for (name,) in self._rows.all("SELECT name FROM registry_users ORDER BY name")]

    def set_password(self, user: str, password: str, *, new: bool) -> None:
        """Make a user, or change the password of one. Raises UserError."""
        if not _USER.fullmatch(user) or user == RESERVED:
            raise UserError(
                f"invalid user name {user[:80]!r}", hint="letters, digits and . _ @ -, at most 64; no leading sign"
            )
        if len(password) < MIN_LENGTH:
            raise UserError(f"the password is shorter than {MIN_LENGTH} characters")
        hashed = hash_password(password)
        with self._rows.transaction() as connection:
            known = connection.execute("SELECT 1 FROM registry_users WHERE name = ?", (user,)).fetchone()
            if new and known:
                raise UserError(f"user {user} exists", hint=f"shiplap registry user password {user} changes it")
            if not new and not known:
                raise self._unknown(user)
            connection.execute(
                "INSERT INTO registry_users VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET password = excluded.password",
                (user, hashed, self._clock()),
            )

    def remove(self, user: str) -> None:
        """Remove a user with all rights and tokens. Raises UserError."""
        with self._rows.transaction() as connection:
            if not connection.execute("DELETE FROM registry_users WHERE name = ?", (user,)).rowcount:
                raise self._unknown(user)
            connection.execute("DELETE FROM registry_grants WHERE user = ?", (user,))
            connection.execute("DELETE FROM registry_tokens WHERE user = ?", (user,))

    def grant(self, user: str, pattern: str, actions: Iterable[str]) -> None:
        """Give rights; they replace what the same pattern had. user: EVERYONE for all. Raises UserError."""
        wanted = checked_actions(actions)
        with self._rows.transaction() as connection:
            if (
                user != EVERYONE
                and not connection.execute("SELECT 1 FROM registry_users WHERE name = ?", (user,)).fetchone()
            ):
                raise self._unknown(user)
            connection.execute(
                "INSERT OR REPLACE INTO registry_grants VALUES (?, ?, ?)", (user, pattern, " ".join(wanted))
            )

    def revoke(self, user: str, pattern: str) -> None:
        """Take the rights of one pattern away. Raises UserError."""
        with self._rows.transaction() as connection:
            if not connection.execute(
                "DELETE FROM registry_grants WHERE user = ? AND pattern = ?", (user, pattern)
            ).rowcount:
                raise UserError(f"{user or 'everyone'} has no rights by the pattern {pattern!r}")

    def grants(self, user: str) -> list[Grant]:
        """The rights of a user, without those of everyone."""
        return [
            Grant(pattern, frozenset(actions.split()))
            for pattern, actions in self._rows.all(
                "SELECT pattern, actions FROM registry_grants WHERE user = ? ORDER BY pattern", (user,)
            )
        ]

    def is_user(self, user: str) -> bool:
        return self._rows.one("SELECT 1 FROM registry_users WHERE name = ?", (user,)) is not None

    def create_token(
        self, user: str, pattern: str, actions: Iterable[str], *, lifetime_s: float | None
    ) -> tuple[AccessToken, str]:
        """Make an access token; returns it and its secret. Raises UserError."""
        if not self.is_user(user):
            raise self._unknown(user)
        secret, identity, now = TOKEN_PREFIX + secrets.token_urlsafe(32), secrets.token_hex(6), self._clock()
        limit = Grant(pattern, frozenset(checked_actions(actions)))
        token = AccessToken(identity, user, limit, now, None if lifetime_s is None else now + lifetime_s)
        with self._rows.transaction() as connection:
            connection.execute(
                "INSERT INTO registry_tokens VALUES (?, ?, ?, ?, ?, ?, ?)",
                (identity, user, _digest(secret), pattern, " ".join(sorted(limit.actions)), now, token.expires_at),
            )
        return token, secret

    def tokens(self) -> list[AccessToken]:
        return [
            AccessToken(identity, user, Grant(pattern, frozenset(actions.split())), created_at, expires_at)
            for identity, user, pattern, actions, created_at, expires_at in self._rows.all(
                "SELECT id, user, pattern, actions, created_at, expires_at FROM registry_tokens ORDER BY created_at"
            )
        ]

    def remove_token(self, identity: str) -> None:
        """Take an access token back. Raises UserError."""
        with self._rows.transaction() as connection:
            if not connection.execute("DELETE FROM registry_tokens WHERE id = ?", (identity,)).rowcount:
                raise UserError(f"no access token {identity!r}")

    def log_in(self, user: str, password: str) -> Login | None:
        """Check a name with a password or an access token; None when they are not good."""
        if password.startswith(TOKEN_PREFIX):
            login = self.log_in_by_token(password)
            return login if login is not None and login.user == user else None
        row = self._rows.one("SELECT password FROM registry_users WHERE name = ?", (user,))
        hashed = row[0] if row else self._decoy
        seen = hmac.digest(self._key, f"{user}\0{password}\0{hashed}".encode(errors="surrogatepass"), "sha256")
        if row and seen in self._good:
            return Login(user)
        if not password_fits(password, hashed) or not row:
            return None
        with self._lock:
            if len(self._good) >= _REMEMBERED:
                self._good.clear()
            self._good.add(seen)
        return Login(user)

    def log_in_by_token(self, secret: str) -> Login | None:
        """Check an access token; None when it is unknown or expired."""
        row = self._rows.one(
            "SELECT user, pattern, actions FROM registry_tokens"
            " WHERE digest = ? AND (expires_at IS NULL OR expires_at > ?)",
            (_digest(secret), self._clock()),
        )
        return Login(row[0], Grant(row[1], frozenset(row[2].split()))) if row else None

    def close(self) -> None:
        """Close the database connections of ``of``."""
        self._rows.close()

    def _unknown(self, user: str) -> UserError:
        return UserError(f"no user {user[:80]!r}", hint="shiplap registry user ls shows all")


def checked_actions(actions: Iterable[str]) -> list[str]:
    """Actions in their usual order; ``*`` means all. Raises UserError."""
    wanted = set(actions)
    if "*" in wanted:
        wanted = set(ACTIONS)
    unknown = wanted - set(ACTIONS)
    if unknown or not wanted:
        raise UserError(
            f"no such action: {', '.join(sorted(unknown))}" if unknown else "no action given",
            hint=f"actions are {', '.join(ACTIONS)}, or *",
        )
    return [action for action in ACTIONS if action in wanted]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
