"""Tables of an older schema: migrated in a database of their own, before anything of the service changes.

An SQLite file gets the schema that the backup names, then the backup's rows, then every migration since. So the rows go
through the same migrations as the service's own database did.
"""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from sqlalchemy import MetaData, Table, create_engine, event, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, NoSuchTableError, StatementError

from pipelines.database import upgrade
from pipelines.errors import BackupError
from pipelines.keeping.format import BATCH_ROWS, insert_rows, rows_of, table_name

Rows: TypeAlias = Callable[[Table], Iterator[Mapping[str, object]]]


@contextlib.contextmanager
def migrated_rows(archive: tarfile.TarFile, schema: str, directory: Path) -> Iterator[Rows]:
    """The rows of each of today's tables, from a backup of an older schema. directory: scratch, for the SQLite file.

    Raises BackupError for rows that the older schema has no place for.
    """
    engine = create_engine(f"sqlite:///{directory}/restore.db", hide_parameters=True)

    @event.listens_for(engine, "connect")
    def prepare(connection: object, record: object) -> None:
        del record
        connection.execute("PRAGMA synchronous=OFF")  # type: ignore[attr-defined]  # nobody needs it after a crash

    try:
        with engine.connect() as connection:
            upgrade(connection, schema)
            _fill(archive, connection)
            upgrade(connection, "head")
            connection.commit()
            yield lambda table: _rows(connection, table)
    finally:
        engine.dispose()


def _fill(archive: tarfile.TarFile, connection: Connection) -> None:
    for member in archive.getnames():
        name = table_name(member)
        if name is None:
            continue
        try:
            table = Table(name, MetaData(), autoload_with=connection, resolve_fks=False)
            insert_rows(connection, table, rows_of(archive, name))
        except NoSuchTableError as error:
            raise BackupError(f"the backup has a table {name}, which its schema has not") from error
        except (DBAPIError, StatementError) as error:
            raise BackupError(f"the backup's table {name} does not fit its schema: {error}") from error


def _rows(connection: Connection, table: Table) -> Iterator[Mapping[str, object]]:
    for row in connection.execute(select(table).execution_options(yield_per=BATCH_ROWS)).mappings():
        yield dict(row)
