"""Restores a backup of any release while the service runs, or shows what a restore would do.

Everything that is replaced is replaced in one transaction. A restore killed before that leaves the service as it was.
"""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, Self

import msgspec
from sqlalchemy import Table, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import REGCLASS
from sqlalchemy.engine import Connection

from core.files import reclaim_scratch, scratch_directory, storage_errors
from core.settings import ServiceSettings
from pipelines.accounts.tokens import bring_back, installed
from pipelines.database import Database, known_schemas, migrate
from pipelines.errors import BackupError
from pipelines.keeping.format import KEY, LEFT_OUT, NO_IMAGES, TABLES, Header, insert_rows, opened, read_header, rows_of
from pipelines.keeping.images import LIST as IMAGE_LIST
from pipelines.keeping.images import read_images
from pipelines.keeping.oldbackups import Rows, migrated_rows
from pipelines.keeping.repositories import MEMBERS as GIT_MEMBERS
from pipelines.keeping.repositories import staged_repositories
from pipelines.keys.keynumbers import note_key
from pipelines.runs.artifacts import send_again
from pipelines.schema import HEAD, jobs, runs
from pipelines.service import Service
from pipelines.sources.contexts import ContextEntry
from pipelines.sources.git import repositories

_SCRATCH: Final = ".restoring-"
_DAMAGED: Final = (
    tarfile.TarError, msgspec.DecodeError, msgspec.ValidationError, KeyError, EOFError, UnicodeDecodeError,
)  # fmt: skip


def restore(settings: ServiceSettings, path: Path) -> list[Path]:
    """``Saved.restore`` from a file."""
    with path.open("rb") as file, Saved.reading(file, str(path)) as saved:
        return saved.restore(settings)


class Saved:
    """A backup that is open for reading.

    header: who made it, and when.
    left_out: what a restore does not bring back, for people.
    """

    def __init__(self, archive: tarfile.TarFile) -> None:
        self.archive = archive
        self.names = frozenset(archive.getnames())
        self.header: Header = read_header(archive, known_schemas())
        self.left_out = LEFT_OUT if self.has_images else (*LEFT_OUT, NO_IMAGES)

    @classmethod
    @contextlib.contextmanager
    def reading(cls, file: IO[bytes], name: str) -> Iterator[Self]:
        """Open a backup. file: seekable. name: for messages.

        Raises BackupError when it is no backup, is not whole, or is of a newer version; also from inside the block.
        """
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                yield cls(archive)
        except _DAMAGED as error:
            raise BackupError(f"{name} is no whole backup of a Shiplap service: {error}") from error

    @property
    def has_images(self) -> bool:
        """Whether the built-in registry's images are in it."""
        return IMAGE_LIST in self.names

    @property
    def is_older(self) -> bool:
        """Whether its tables have to be migrated."""
        return self.header.schema != HEAD

    def restore(self, settings: ServiceSettings) -> list[Path]:
        """Make the service what it was: everything that it knows is replaced, in one transaction.

        A running service goes on. Workers lose runs that are no longer theirs. Runs that ran at the time of the backup
        run again. The tokens of the service's own machines stay good. Images are added to the existing ones.
        Repositories replace existing ones; returns where those are now that had other refs.
        """
        migrate(settings)
        with Service.open(settings) as service, self._rows(settings.root / "serve") as rows:
            moved = self._replace(service, rows)
            if self.has_images:
                read_images(self.archive, settings)
            return moved

    @contextlib.contextmanager
    def _rows(self, parent: Path) -> Iterator[Rows]:
        """The rows of today's tables. parent: a directory for scratch directories."""
        if not self.is_older:
            yield lambda table: rows_of(self.archive, table.name)
            return
        with storage_errors(str(parent)):
            reclaim_scratch(parent, _SCRATCH)
            with (
                scratch_directory(parent, _SCRATCH) as directory,
                migrated_rows(self.archive, self.header.schema, directory) as rows,
            ):
                yield rows

    def _replace(self, service: Service, rows: Rows) -> list[Path]:
        manifests, keys, saved = [], [], []
        for member in self.archive:
            kind, _, name = member.name.partition("/")
            if kind == "blobs":
                service.contexts.put_blob(f"sha256:{name}", opened(self.archive, member))
            elif kind == "manifests":
                data = opened(self.archive, member).read()
                manifests.append(msgspec.json.decode(data, type=list[ContextEntry]))
            elif is_key(kind):
                keys.append(opened(self.archive, member).read())
            elif kind == GIT_MEMBERS.rstrip("/"):
                saved.append(member)
        for entries in manifests:
            service.contexts.begin(entries)
        with staged_repositories(self.archive, saved, repositories(service.settings)) as put_in_place:
            with service.secrets.keys.replaced(keys), service.database.write() as connection:
                _replace_tables(service.database, rows, connection)
                if keys:
                    note_key(connection, keys[0])
            return put_in_place()


def is_key(member: str) -> bool:
    """Whether a member is a key of secrets."""
    return member == KEY or member.startswith(f"{KEY}-")


def _replace_tables(database: Database, rows: Rows, connection: Connection) -> None:
    database.wait_patiently(connection)
    attempts = {row.number: row.attempt for row in connection.execute(select(jobs.c.number, jobs.c.attempt))}
    own_tokens = installed(connection)
    for table in reversed(TABLES):
        connection.execute(delete(table))
    for table in TABLES:
        insert_rows(connection, table, rows(table))
        _advance_sequence(connection, database, table)
    bring_back(connection, own_tokens)
    _begin_again(connection, attempts)
    send_again(connection)


def _begin_again(connection: Connection, attempts: Mapping[int, int]) -> None:
    """Queue the jobs that ran when the backup was made, and those whose workers have a later attempt.

    attempts: by job, before this restore. No attempt's number is given again, so workers that go on with any of these
    jobs are fenced.
    """
    going = select(jobs.c.number, jobs.c.attempt).where(jobs.c.state.in_(("queued", "running")))
    for number, attempt in connection.execute(going).all():
        later = max(0, attempts.get(number, 0) - attempt)
        changes: dict[str, Any] = {"attempt": attempt + later, "max_attempts": jobs.c.max_attempts + later}
        changes |= {"state": "queued", "reason": "", "worker": ""}
        connection.execute(update(jobs).where(jobs.c.number == number).values(**changes))
    alone = runs.c.pipeline == ""  # what a pipeline's run is, all of its jobs say
    connection.execute(update(runs).where(runs.c.state == "running", alone).values(state="queued"))


def _advance_sequence(connection: Connection, database: Database, table: Table) -> None:
    """Move PostgreSQL's sequence past the restored rows, which it did not number, and past all numbers given since."""
    column = table.autoincrement_column
    if database.is_sqlite or column is None:
        return
    highest = connection.execute(select(func.max(column))).scalar()
    if highest is not None:
        sequence = func.pg_get_serial_sequence(table.name, column.name)
        given = func.coalesce(func.pg_sequence_last_value(cast(sequence, REGCLASS)), 0)
        connection.execute(select(func.setval(sequence, func.greatest(highest, given))))
