"""Secrets for builds, encrypted at rest with the key in ROOT/serve/secret.key (mode 0600, made at the first use).

AES-256-GCM, a fresh nonce for each value, the secret's name bound to it. Several hosts share the key file.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import delete, insert, select

from core.masking import MIN_LENGTH
from pipelines.database import Database
from pipelines.errors import InvalidRequestError, NotFoundError, SecretError
from pipelines.schema import secrets

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MAX_BYTES: Final = 64 << 10
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class SecretInfo(msgspec.Struct, frozen=True):
    """What may be told of a secret."""

    name: str
    created_at: float


class Secrets:
    """All secrets. Thread-safe."""

    def __init__(self, database: Database, key_file: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._key_file = key_file
        self._clock = clock

    def put(self, name: str, value: bytes) -> None:
        """Store or replace it. Raises InvalidRequestError."""
        if not _NAME.fullmatch(name):
            raise InvalidRequestError(f"invalid name of a secret: {name[:100]!r}")
        if not MIN_LENGTH <= len(value) <= _MAX_BYTES:
            raise InvalidRequestError(
                f"a secret has {MIN_LENGTH} to {_MAX_BYTES} bytes, this one {len(value)}",
                hint="a shorter one could not be masked in logs",
            )
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + AESGCM(self._key()).encrypt(nonce, value, name.encode())
        with self._database.write() as connection:
            connection.execute(delete(secrets).where(secrets.c.name == name))
            connection.execute(insert(secrets).values(name=name, value=sealed, created_at=self._clock()))

    def list(self) -> list[SecretInfo]:
        with self._database.read() as connection:
            rows = connection.execute(select(secrets.c.name, secrets.c.created_at).order_by(secrets.c.name))
            return [SecretInfo(row.name, row.created_at) for row in rows]

    def delete(self, name: str) -> None:
        """Raises NotFoundError."""
        with self._database.write() as connection:
            if not connection.execute(delete(secrets).where(secrets.c.name == name)).rowcount:
                raise NotFoundError(f"there is no secret {name}")

    def reveal(self, names: Iterable[str]) -> dict[str, bytes]:
        """The values. Raises NotFoundError, and SecretError when the key does not fit."""
        found = {}
        with self._database.read() as connection:
            for name in names:
                sealed = connection.execute(select(secrets.c.value).where(secrets.c.name == name)).scalar()
                if sealed is None:
                    raise NotFoundError(f"there is no secret {name}", hint="an administrator can add it")
                found[name] = self._open(name, bytes(sealed))
        return found

    def _open(self, name: str, sealed: bytes) -> bytes:
        try:
            return AESGCM(self._key()).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except InvalidTag as error:
            raise SecretError(
                f"the secret {name} cannot be decrypted with {self._key_file}",
                hint="this key is not the one it was stored with: bring that one back, or store the secret anew",
            ) from error

    def _key(self) -> bytes:
        try:
            key = self._key_file.read_bytes()
        except FileNotFoundError:
            key = self._new_key()
        if len(key) != _KEY_BYTES:
            raise SecretError(f"{self._key_file} is no key: it has {len(key)} bytes, not {_KEY_BYTES}")
        return key

    def _new_key(self) -> bytes:
        """Made aside and linked into place, so that of two processes one wins, and nobody reads half a key."""
        temporary = self._key_file.with_name(f".{self._key_file.name}.{os.getpid()}.{os.urandom(4).hex()}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(os.urandom(_KEY_BYTES))
                file.flush()
                os.fsync(fd)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, self._key_file)
            return self._key_file.read_bytes()
        finally:
            os.unlink(temporary)
