"""The number of the key that the service's secrets are sealed with, in its database. The key itself is never there.

Migrating makes the key and notes its number, so that hosts can be given copies before there is any secret. A worker
without the key, or with another one, does not start. There is one row, or none until the key is known.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete, insert, literal, select, union_all
from sqlalchemy.engine import Connection

from pipelines.errors import SecretError
from pipelines.keys.keyring import KeyRing, number_of
from pipelines.schema import key_numbers, registry_logins, run_secrets, secrets

ORIGIN: Final = "ROOT/serve/secret.key of the web process's host"
_LOST: Final = "if it is lost for good, and so the secrets: shiplap migrate --new-key"


def settle_key(connection: Connection, keys: KeyRing) -> None:
    """Make the key unless there is one, and note its number unless one is noted.

    Where the service has secrets but this host has no key, the key is elsewhere: none is made here. Raises SecretError.
    """
    if noted_number(connection) is None and (keys.kept() or not _has_secrets(connection)):
        note_key(connection, keys.current())


def note_key(connection: Connection, key: bytes) -> None:
    """From this transaction on, ``key`` is the service's."""
    connection.execute(delete(key_numbers))
    connection.execute(insert(key_numbers).values(number=number_of(key)))


def check_key(connection: Connection, keys: KeyRing) -> None:
    """Raises SecretError unless this host has the service's key, or the service's key is not known yet."""
    noted = noted_number(connection)
    kept = keys.kept()
    if noted is None or noted in map(number_of, kept):
        return
    if not kept:
        raise SecretError(
            f"there is no {keys.file}: the key that the service's secrets are encrypted with has the number {noted}",
            hint=f"copy it from {ORIGIN} and name the copy in SHIPLAP_SECRET_KEY_FILE; {_LOST}",
        )
    raise SecretError(
        f"{keys.file} is another key, of number {number_of(kept[0])}: the service's has the number {noted}",
        hint=f"copy it anew from {ORIGIN}; {_LOST}",
    )


def noted_number(connection: Connection) -> str | None:
    """The number of the service's key; None until it is known."""
    return connection.execute(select(key_numbers.c.number)).scalar()


def _has_secrets(connection: Connection) -> bool:
    tables = (secrets, run_secrets, registry_logins)
    return (
        connection.execute(union_all(*(select(literal(1)).select_from(table) for table in tables))).first() is not None
    )
