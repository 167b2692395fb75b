"""Log-ins of the service to registries elsewhere, encrypted as secrets are. Projects get them by grants."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

import msgspec
from sqlalchemy import delete, insert, select

from pipelines.changes import Change, compared, of_secret
from pipelines.database import Database
from pipelines.errors import InvalidRequestError, NotFoundError
from pipelines.owning.grants import forget_grants_of_name
from pipelines.schema import registry_logins
from pipelines.sealing.vault import Secrets

_REGISTRY: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?")
_MAX: Final = 300
_MAX_PASSWORD_BYTES: Final = 64 << 10


class LoginInfo(msgspec.Struct, frozen=True):
    """A log-in without its password. registry: HOST[:PORT]."""

    registry: str
    username: str
    created_at: float


class Logins:
    """All log-ins. Thread-safe. vault: encrypts the passwords."""

    def __init__(self, database: Database, vault: Secrets, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._vault = vault
        self._clock = clock

    def put(self, registry: str, username: str, password: str) -> tuple[Change, ...]:
        """Store a log-in, in place of one for the same registry. Returns what that changed, without the password.

        Raises InvalidRequestError.
        """
        if not _REGISTRY.fullmatch(registry) or len(registry) > _MAX:
            raise InvalidRequestError(f"no name of a registry: {registry[:100]!r}", hint="write HOST or HOST:PORT")
        if not username or len(username) > _MAX or not username.isprintable() or ":" in username:
            raise InvalidRequestError("a user name has 1 to 300 printable characters, and no colon")
        data = password.encode()
        if not 0 < len(data) <= _MAX_PASSWORD_BYTES or not password.isprintable():
            raise InvalidRequestError("a password has printable characters, at most 64 KiB of them")
        values = {
            "registry": registry,
            "username": username,
            "password": self._vault.seal(_purpose(registry), data),
            "created_at": self._clock(),
        }
        this = registry_logins.c.registry == registry
        with self._database.write() as connection:
            before = connection.execute(select(registry_logins.c.username).where(this).with_for_update()).scalar()
            connection.execute(delete(registry_logins).where(this))
            connection.execute(insert(registry_logins).values(values))
        changes = compared({"username": before}, {"username": username})
        return (*changes, *of_secret("password", had=before is not None, has=True))

    def list(self) -> list[LoginInfo]:
        """All log-ins, by registry."""
        with self._database.read() as connection:
            rows = connection.execute(select(registry_logins).order_by(registry_logins.c.registry))
            return [LoginInfo(row.registry, row.username, row.created_at) for row in rows]

    def delete(self, registry: str) -> None:
        """Raises NotFoundError."""
        with self._database.write() as connection:
            if not connection.execute(delete(registry_logins).where(registry_logins.c.registry == registry)).rowcount:
                raise NotFoundError(f"there is no log-in to {registry[:100]}")
            forget_grants_of_name(connection, "login", registry)

    def reveal(self, registry: str) -> tuple[str, str] | None:
        """User name and password; the caller has checked that they are granted. Raises SecretError."""
        with self._database.read() as connection:
            row = connection.execute(select(registry_logins).where(registry_logins.c.registry == registry)).first()
        if row is None:
            return None
        return row.username, self._vault.unseal(_purpose(registry), bytes(row.password)).decode()


def _purpose(registry: str) -> str:
    return f"log-in to {registry}"
