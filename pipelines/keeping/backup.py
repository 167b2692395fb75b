"""Backups while the service runs: one tar with every table, the secrets' key, contexts, and repositories.

The tables are JSON lines from one consistent snapshot, so a backup of SQLite can be restored into PostgreSQL and the
other way round. The repositories are those of ROOT/git (``pipelines.keeping.repositories``). The built-in registry's
images are in the backup if wanted. Not in it are the registry's own users and access tokens; nor the build cache and
Redis, which hold nothing that cannot be made again. The file holds the key of the secrets: keep it as you keep the
secrets. ``pipelines.keeping.restore`` reads it.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Final

import msgspec
from sqlalchemy import select

from core.files import appearing, storage_errors
from core.release import VERSION, commit
from core.settings import ServiceSettings
from pipelines.keeping.format import END, HEADER, KEY, TABLE_ENDING, TABLE_MEMBERS, TABLES, Header, to_json
from pipelines.keeping.images import write_images
from pipelines.keeping.records import MadeBackup, note_backup
from pipelines.keeping.repositories import write_repositories
from pipelines.keeping.restore import restore
from pipelines.schema import HEAD, contexts
from pipelines.service import Service
from pipelines.sources.git import repositories

__all__ = ["backup", "restore", "stream_backup"]

_SPOOLED_BYTES: Final = 4 << 20


def backup(settings: ServiceSettings, path: Path, *, images: bool = False, by: str = "") -> None:
    """Write everything to ``path`` (mode 0600), which appears only when it is whole; a kill leaves nothing.

    images: the registry's, too. by: who asked for it; "" for a command.
    Raises SchemaError, DatabaseUnreachableError, StorageFullError, BackupError.
    """
    began = time.time()
    with appearing(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _write(archive, settings, images=images)
    where = f"{path} on {socket.gethostname()}"
    note_backup(settings, MadeBackup(began, time.time() - began, by, where, path.stat().st_size, images))


def stream_backup(settings: ServiceSettings, sink: IO[bytes], *, images: bool = False) -> int:
    """Write everything to ``sink``, byte after byte; returns how many bytes. Nothing of it stays on this machine.

    A restore refuses a backup that was cut off. Raises as ``backup``, and what writing raises.
    """
    began = time.time()
    counted = _Counted(sink)
    with tarfile.open(fileobj=counted, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _write(archive, settings, images=images)
    where = f"standard output of {socket.gethostname()}"
    note_backup(settings, MadeBackup(began, time.time() - began, "", where, counted.written_bytes, images))
    return counted.written_bytes


class _Counted(io.RawIOBase):
    """Writes through, and counts the bytes."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self.written_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Write all of ``data``."""
        self._sink.write(data)
        self.written_bytes += len(data)
        return len(data)


def _write(archive: tarfile.TarFile, settings: ServiceSettings, *, images: bool) -> None:
    with Service.open(settings) as service:
        _add(archive, HEADER, msgspec.json.encode(Header(HEAD, release=VERSION, commit=commit(), at=time.time())))
        for number, key in enumerate(service.secrets.keys.kept()):
            _add(archive, f"{KEY}-{number}" if number else KEY, key)
        _write_tables(archive, service)
        write_repositories(archive, repositories(settings))
        if images:
            write_images(archive, settings)
        _add(archive, END, b"")


def _write_tables(archive: tarfile.TarFile, service: Service) -> None:
    """The tables of one moment, and the contexts that they name.

    All tables are read before any is written: whoever takes the backup may be slow, and the transaction must not wait
    for them. Until then the rows are in files without names, on the disk of the service's own data.
    """
    with contextlib.ExitStack() as stack:
        spools = []
        directory = str(service.settings.root / "serve")
        with storage_errors(str(service.settings.root)), service.database.read_one_moment() as connection:
            service.database.wait_patiently(connection)
            for table in TABLES:
                spool = stack.enter_context(tempfile.SpooledTemporaryFile(_SPOOLED_BYTES, dir=directory))
                for row in connection.execute(select(table)).mappings():
                    spool.write(msgspec.json.encode(to_json(row)) + b"\n")
                spools.append((table.name, spool))
            digests = [row.digest for row in connection.execute(select(contexts.c.digest))]
        for name, spool in spools:
            _add_file(archive, f"{TABLE_MEMBERS}{name}{TABLE_ENDING}", spool)
    written: set[str] = set()
    for digest in digests:
        for name, file in service.contexts.files(digest):
            if name not in written:
                written.add(name)
                with file.open("rb") as opened:
                    _add_file(archive, name, opened)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    _add_file(archive, name, io.BytesIO(data))


def _add_file(archive: tarfile.TarFile, name: str, file: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = file.seek(0, os.SEEK_END)
    file.seek(0)
    archive.addfile(member, file)
