"""Backup and restore while the service runs: one tar with every table, the secrets' key, contexts, and repositories.

The tables are JSON lines from one consistent snapshot, so a backup of SQLite can be restored into PostgreSQL and the
other way round. The repositories are those of ROOT/git (``pipelines.gitbackup``). The built-in registry's images are in
it if wanted, its own users and access tokens are not, nor are the build cache and Redis, which hold nothing that cannot
be made again. The file holds the key of the secrets: keep it as you keep those.
"""

from __future__ import annotations

import base64
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import msgspec
from sqlalchemy import Table, cast, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import REGCLASS
from sqlalchemy.engine import Connection

from core.files import fsync_directory, storage_errors
from core.settings import ServiceSettings
from pipelines.contexts import ContextEntry
from pipelines.database import Database, migrate
from pipelines.errors import BackupError
from pipelines.gitbackup import MEMBERS as GIT_MEMBERS
from pipelines.gitbackup import staged_repositories, write_repositories
from pipelines.imagebackup import LIST as IMAGE_LIST
from pipelines.imagebackup import read_images, write_images
from pipelines.keynumbers import note_key
from pipelines.schema import (
    HEAD,
    approvals,
    audit,
    contexts,
    counters,
    deliveries,
    grants,
    image_tags,
    log_chunks,
    metadata,
    project_roles,
    projects,
    registry_logins,
    run_secrets,
    runs,
    secrets,
    statuses,
    steps,
    tokens,
    users,
)
from pipelines.service import Service
from pipelines.sources import repositories
from pipelines.tokens import bring_back, installed

_TABLES: Final = (  # each after those that it refers to
    projects, runs, run_secrets, steps, log_chunks, users, tokens, secrets, contexts, counters, audit,
    deliveries, approvals, statuses, registry_logins, grants, project_roles, image_tags,
)  # fmt: skip
_HEADER: Final = "shiplap-backup.json"
_KEY: Final = "secret.key"
_BATCH_ROWS: Final = 200
_SPOOLED_BYTES: Final = 4 << 20
_MAX_LINE_BYTES: Final = 128 << 20


class Header(msgspec.Struct, frozen=True):
    """The first member. schema: the migration that the tables are of."""

    schema: str
    format: int = 1


def backup(settings: ServiceSettings, path: Path, *, images: bool = False) -> None:
    """Write everything to ``path`` (mode 0600), which appears only when it is whole. images: the registry's, too.

    Raises SchemaError, DatabaseUnreachableError, StorageFullError, BackupError.
    """
    with storage_errors(str(path)), Service.open(settings) as service:
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(fd, "wb") as file:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                    _write(archive, service)
                    write_repositories(archive, repositories(settings))
                    if images:
                        write_images(archive, settings)
                file.flush()
                os.fsync(fd)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        fsync_directory(path.parent)


def restore(settings: ServiceSettings, path: Path) -> list[Path]:
    """Make the service what it was: everything that it knows is replaced, in one transaction.

    A running service goes on: workers lose runs that are no longer theirs, runs that ran then run again, and the
    tokens of its own machines stay good. Images are added to those that are there. Repositories take the places of
    those that are there; returns where those are now that had other refs. Raises BackupError for a file that is no
    backup of this version.
    """
    migrate(settings)
    try:
        with tarfile.open(path, "r:") as archive, Service.open(settings) as service:
            moved = _read(archive, service)
            if IMAGE_LIST in archive.getnames():
                read_images(archive, settings)
            return moved
    except (tarfile.TarError, msgspec.DecodeError, msgspec.ValidationError, KeyError, EOFError) as error:
        raise BackupError(f"{path} is no whole backup of a Shiplap service: {error}") from error


def _write(archive: tarfile.TarFile, service: Service) -> None:
    _add(archive, _HEADER, msgspec.json.encode(Header(HEAD)))
    for number, key in enumerate(service.secrets.keys.kept()):
        _add(archive, f"{_KEY}-{number}" if number else _KEY, key)
    with service.database.read() as connection:
        if not service.database.is_sqlite:  # there a read transaction is a snapshot by itself
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        service.database.wait_patiently(connection)
        for table in _TABLES:
            with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as spool:
                for row in connection.execute(select(table)).mappings():
                    spool.write(msgspec.json.encode(_to_json(row)) + b"\n")
                _add_file(archive, f"tables/{table.name}.jsonl", spool)
        digests = [row.digest for row in connection.execute(select(contexts.c.digest))]
    written: set[str] = set()
    for digest in digests:
        for name, file in service.contexts.files(digest):
            if name not in written:
                written.add(name)
                with file.open("rb") as opened:
                    _add_file(archive, name, opened)


def _read(archive: tarfile.TarFile, service: Service) -> list[Path]:
    header = msgspec.json.decode(_opened(archive, _HEADER).read(), type=Header)
    if header.format != 1 or header.schema != HEAD:
        raise BackupError(
            f"the backup has schema {header.schema}, this version works with {HEAD}",
            hint="restore it with the version that made it, then migrate",
        )
    manifests, keys, saved = [], [], []
    for member in archive:
        kind, _, name = member.name.partition("/")
        if kind == "blobs":
            service.contexts.put_blob(f"sha256:{name}", _opened(archive, member))
        elif kind == "manifests":
            manifests.append(msgspec.json.decode(_opened(archive, member).read(), type=list[ContextEntry]))
        elif kind == _KEY or kind.startswith(f"{_KEY}-"):
            keys.append(_opened(archive, member).read())
        elif kind == GIT_MEMBERS.rstrip("/"):
            saved.append(member)
    for entries in manifests:
        service.contexts.begin(entries)
    with staged_repositories(archive, saved, repositories(service.settings)) as put_in_place:
        with service.secrets.keys.replaced(keys), service.database.write() as connection:
            _replace_tables(archive, service, connection)
            if keys:
                note_key(connection, keys[0])
        return put_in_place()


def _replace_tables(archive: tarfile.TarFile, service: Service, connection: Connection) -> None:
    service.database.wait_patiently(connection)
    attempts = {row.number: row.attempt for row in connection.execute(select(runs.c.number, runs.c.attempt))}
    own_tokens = installed(connection)
    for table in reversed(_TABLES):
        connection.execute(delete(table))
    for table in _TABLES:
        _fill(connection, table, _opened(archive, f"tables/{table.name}.jsonl"))
        _advance_sequence(connection, service.database, table)
    bring_back(connection, own_tokens)
    _begin_again(connection, attempts)


def _begin_again(connection: Connection, attempts: Mapping[int, int]) -> None:
    """Queue the runs that ran when the backup was made, and those whose workers know of a later attempt.

    attempts: of the runs before this. Workers that go on with any of them are fenced: no number is given again.
    """
    going = select(runs.c.number, runs.c.attempt).where(runs.c.state.in_(("queued", "running")))
    for number, attempt in connection.execute(going).all():
        later = max(0, attempts.get(number, 0) - attempt)
        changes = {"attempt": attempt + later, "max_attempts": runs.c.max_attempts + later}
        changes |= {"state": "queued", "reason": "", "worker": ""}
        connection.execute(update(runs).where(runs.c.number == number).values(**changes))


def _fill(connection: Connection, table: Table, stream: IO[bytes]) -> None:
    batch = []
    for line in _lines(stream):
        batch.append(_from_json(line))
        if len(batch) >= _BATCH_ROWS:
            connection.execute(insert(table), batch)
            batch = []
    if batch:
        connection.execute(insert(table), batch)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    while line := stream.readline(_MAX_LINE_BYTES):
        yield line


def _advance_sequence(connection: Connection, database: Database, table: Table) -> None:
    """PostgreSQL does not see that rows came with their numbers. Those given since the backup are not given again."""
    column = table.autoincrement_column
    if database.is_sqlite or column is None:
        return
    highest = connection.execute(select(func.max(column))).scalar()
    if highest is not None:
        sequence = func.pg_get_serial_sequence(table.name, column.name)
        given = func.coalesce(func.pg_sequence_last_value(cast(sequence, REGCLASS)), 0)
        connection.execute(select(func.setval(sequence, func.greatest(highest, given))))


def _to_json(row: Any) -> dict[str, object]:
    return {
        name: {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes | memoryview) else value
        for name, value in row.items()
    }


def _from_json(line: bytes) -> dict[str, object]:
    row = msgspec.json.decode(line, type=dict[str, Any])
    return {
        name: base64.b64decode(value["base64"]) if isinstance(value, dict) else value for name, value in row.items()
    }


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    _add_file(archive, name, io.BytesIO(data))


def _add_file(archive: tarfile.TarFile, name: str, file: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = file.seek(0, os.SEEK_END)
    file.seek(0)
    archive.addfile(member, file)


def _opened(archive: tarfile.TarFile, name: str | tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise BackupError(f"{name} in the backup is no file")
    return file


# Not in it: who is at work, who is signed in, what passes by itself; who sent which files, which is sent again; and the
# key's number, for the key itself is.
_PASSING: Final = {
    "key_numbers", "senders", "workers", "worker_faults", "sessions", "sign_in_links", "oidc_sign_ins", "throttle",
}  # fmt: skip
assert {table.name for table in _TABLES} == metadata.tables.keys() - _PASSING
