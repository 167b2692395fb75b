"""The key that values are sealed with, and former keys that may still open some.

secret.key             mode 0600, made with the database; new values are sealed with it
secret.key-<hash>      beside it: a former key while a restore brings another one; tried for values that secret.key
                       does not open
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from core.files import fsync_directory, write_atomically
from pipelines.errors import SecretError

_KEY_BYTES: Final = 32
_HASH_DIGITS: Final = 16


class KeyRing:
    """The keys of one directory. Thread-safe, and several processes may share it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def current(self) -> bytes:
        """The key that values are sealed with; made if there is none. Raises SecretError for a file that is no key."""
        try:
            return _checked(self.file)
        except FileNotFoundError:
            return self._new()

    def kept(self) -> list[bytes]:
        """All keys, the current one first; makes none. Raises SecretError."""
        keys = []
        for file in (self.file, *self._others()):
            with contextlib.suppress(FileNotFoundError):
                keys.append(_checked(file))
        return keys

    @contextlib.contextmanager
    def replaced(self, keys: Sequence[bytes]) -> Iterator[None]:
        """Let ``keys`` take the place of the existing ones, in the order of ``kept``; an empty list changes nothing.

        Inside the block, values sealed with former or new keys can be opened: even after a kill at any instant, all
        keys are there. The former keys go once the block has ended well. If it did not, all stay, for nobody knows what
        a broken connection has committed. Raises SecretError where the file cannot be replaced.
        """
        if not keys:
            yield
            return
        former = self.kept()
        if former == list(keys):  # the service's own backup; where the key is mounted nothing could be written
            yield
            return
        try:
            for key in (*former, *keys):
                write_atomically(self._beside(key), key, mode=0o600)
            write_atomically(self.file, keys[0], mode=0o600)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY):
                raise
            raise SecretError(
                f"the key {self.file} cannot give way to the backup's ({number_of(keys[0])}): {error.strerror}",
                hint="put the key that the backup was made with there first (compose: compose/secrets/secret_key)",
            ) from error
        try:
            yield
        except BaseException:
            if former:
                write_atomically(self.file, former[0], mode=0o600)
            raise
        needed = {self._beside(key) for key in keys[1:]}
        for file in self._others():
            if file not in needed:
                file.unlink(missing_ok=True)
        fsync_directory(self.file.parent)

    def _new(self) -> bytes:
        """Make a key aside and link it into place: so of two processes one wins, and nobody reads half a key."""
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            write_atomically(temporary, os.urandom(_KEY_BYTES), mode=0o600)
        except (FileNotFoundError, PermissionError) as error:
            raise SecretError(f"the key {self.file} cannot be made: {error.strerror}") from error
        try:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, self.file)
                fsync_directory(self.file.parent)
            return self.file.read_bytes()
        finally:
            os.unlink(temporary)

    def _beside(self, key: bytes) -> Path:
        return self.file.with_name(f"{self.file.name}-{number_of(key)}")

    def _others(self) -> list[Path]:
        return sorted(self.file.parent.glob(f"{self.file.name}-{'[0-9a-f]' * _HASH_DIGITS}"))


def number_of(key: bytes) -> str:
    """A number that tells keys apart and reveals nothing of the key."""
    return hashlib.sha256(key).hexdigest()[:_HASH_DIGITS]


def _checked(file: Path) -> bytes:
    try:
        key = file.read_bytes()
    except (PermissionError, IsADirectoryError) as error:
        raise SecretError(f"the key {file} cannot be read: {error.strerror}") from error
    check_content(key, str(file))
    return key


def check_content(key: bytes, where: str) -> None:
    """Raises SecretError for content that is no key. where: for the message."""
    if len(key) != _KEY_BYTES:
        raise SecretError(f"{where} is no key: it has {len(key)} bytes, not {_KEY_BYTES}")
