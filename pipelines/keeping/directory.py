"""The directory in which a web process puts the backups that administrators ask for (``SHIPLAP_BACKUP_DIR``).

A backup holds the key of all secrets, so no page and no API hands it out: it stays in a directory that the host's
administrator has chosen, and only who may read that host's files has it. One is made at a time, by a thread; a file has
its name once it is whole, and whatever kills the process leaves nothing (``core.files.appearing``).

DIR/shiplap-20261129T013000Z.tar     a backup, mode 0600; …Z-images.tar with the registry's images
DIR/.shiplap-backup.lock             locked, and says by whom, while one is made
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from core.errors import ShiplapError
from core.files import could_lock, lock_within
from core.settings import ServiceSettings
from pipelines.errors import BackupError, ConflictError
from pipelines.keeping.backup import backup
from pipelines.keeping.records import MadeBackup, note_backup

_LOCK: Final = ".shiplap-backup.lock"
_NAME: Final = re.compile(r"shiplap-\d{8}T\d{6}Z(-images)?\.tar")
_HALF: Final = re.compile(r"\.shiplap-\d{8}T\d{6}Z(-images)?\.tar\..+")
_PATIENCE_S: Final = 1.0
_log: Final = logging.getLogger(__name__)


class BeingMade(msgspec.Struct, frozen=True):
    """A backup that is being made. by: who asked for it. at: since when."""

    by: str
    at: float


class BackupDirectory:
    """Makes backups, one at a time, also where several web processes share the directory. Thread-safe.

    clock: by the wall. make: writes a backup to a path.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        clock: Callable[[], float] = time.time,
        make: Callable[..., None] = backup,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._make = make

    @property
    def path(self) -> Path | None:
        """Where backups go; None: nowhere, so that none can be asked for."""
        return self._settings.backup_dir

    def being_made(self) -> BeingMade | None:
        """The backup that is being made now, by whichever process; None: none is."""
        if self.path is None:
            return None
        try:
            fd = os.open(self.path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if could_lock(fd, fcntl.LOCK_SH):
                return None
            return msgspec.json.decode(os.pread(fd, 4096, 0), type=BeingMade)
        except msgspec.DecodeError:  # it began at this moment
            return BeingMade("", self._clock())
        finally:
            os.close(fd)

    def start(self, by: str, *, images: bool) -> threading.Thread:
        """Begin a backup, and return the thread that makes it.

        Raises ConflictError while one is made, and BackupError without a directory that can be written.
        """
        path = self.path
        if path is None:
            raise BackupError(
                "this service has no place for backups",
                hint="the host's administrator names a directory in SHIPLAP_BACKUP_DIR, or runs: shiplap backup FILE",
            )
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            if not lock_within(lock, _PATIENCE_S):  # who only looks holds it for a moment
                raise ConflictError("a backup is being made", hint="wait until it is there")
            began = self._clock()
            os.ftruncate(lock, 0)
            os.pwrite(lock, msgspec.json.encode(BeingMade(by, began)), 0)
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(began))
            file = path / f"shiplap-{stamp}{'-images' if images else ''}.tar"
            work = (lock, file, by, began, images)
            thread = threading.Thread(target=self._work, args=work, name="backup", daemon=True)
            thread.start()
        except OSError as error:  # the disk is full, say
            os.close(lock)
            raise _unwritable(path, error) from error
        except BaseException:
            os.close(lock)
            raise
        return thread

    def _work(self, lock: int, file: Path, by: str, began: float, images: bool) -> None:
        """Make it, then remove what is too many. Half files of killed processes go first: nobody else makes any now."""
        error = ""
        try:
            _remove(file.parent, _HALF, keep=0)
            self._make(self._settings, file, images=images, by=by)
            if self._settings.backup_keep:
                _remove(file.parent, _NAME, keep=self._settings.backup_keep)
        except ShiplapError as failure:
            error = f"{failure.message}: {failure.hint}" if failure.hint else failure.message
        except OSError as failure:
            error = str(failure)
        finally:
            os.close(lock)
        if error:
            _log.error("the backup that %s asked for failed: %s", by, error)
            where = f"{file} on {socket.gethostname()}"
            note_backup(self._settings, MadeBackup(began, self._clock() - began, by, where, 0, images, error))


def _unwritable(path: Path, error: OSError) -> BackupError:
    return BackupError(
        f"backups cannot be written to {path}: {error.strerror}",
        hint="SHIPLAP_BACKUP_DIR names a directory that the web process may write, with room; "
        "of a systemd unit, ReadWritePaths= has it, too",
    )


def _remove(directory: Path, pattern: re.Pattern[str], *, keep: int) -> None:
    """Remove files of such names, but the last so many by name, which is by time."""
    found = sorted((name for name in os.listdir(directory) if pattern.fullmatch(name)), key=_moment)
    for name in found[: max(0, len(found) - keep)]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(directory / name)


def _moment(name: str) -> str:
    return name.lstrip(".")[: len("shiplap-20261129T013000Z")]
