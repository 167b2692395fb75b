"""The service's database: SQLite by default, PostgreSQL by URL; opened, checked, migrated.

    database = Database.open(settings)
    with database.write() as connection: ...

A write transaction of SQLite begins with BEGIN IMMEDIATE, so it never fails half-way for a lock. Only this database has
the truth about runs; ``pipelines.runs.runs`` says what guards it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import Update, create_engine, event, text
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from core.errors import SettingsError
from core.owners import give
from core.settings import ServiceSettings
from pipelines.errors import (
    DatabaseBusyError,
    DatabaseDownError,
    DatabaseFullError,
    DatabaseUnreachableError,
    SchemaError,
)
from pipelines.keys.keynumbers import settle_key
from pipelines.keys.keyring import KeyRing
from pipelines.postgres import check_encoding, postgres_engine, wait_patiently
from pipelines.schema import HEAD

if TYPE_CHECKING:  # migrating alone needs it
    from alembic.config import Config

_BUSY_TIMEOUT_S: Final = 30
_POOL_SIZE: Final = 20
_MIGRATION_LOCK: Final = 0x5348_4950  # "SHIP": a PostgreSQL advisory lock
_MIGRATE: Final = "run: shiplap migrate"

# PostgreSQL's troubles: SQLSTATEs; and messages of libpq, which has no codes for a failed connection.
_DISK_FULL: Final = "53100"
_HELD: Final = ("55P03", "40P01", "40001")  # a lock's time-out, a deadlock, transactions that collided
_NOT_SERVING: Final = ("57P01", "57P02", "57P03", "25006")  # shutting down, crashed, starting; only for reading
_NOBODY_LISTENS: Final = ("Connection refused", "No such file or directory")
_STARTS_OR_ENDS: Final = "FATAL:  the database system is "


class Database:
    """An engine, and the two kinds of transaction. Thread-safe; not to be carried across a fork."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writing = engine.execution_options(shiplap_write=True)

    @classmethod
    def open(cls, settings: ServiceSettings) -> Self:
        """Connect and check the schema. Raises SettingsError, SchemaError and DatabaseUnreachableError."""
        for file in _sqlite_files(settings):
            if not file.exists():  # connecting would make it
                raise SchemaError(f"there is no database {file}", hint=_NO_FILE)
        database = cls(_engine(settings))
        try:
            database.check()
        except BaseException:
            database.close()
            raise
        return database

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading only."""
        with _translated(), self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end, undone by any exception."""
        with _translated(), self._writing.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def read_one_moment(self) -> Iterator[Connection]:
        """A connection for reading whose statements all see the database as the first of them does."""
        with self.read() as connection:
            if not self.is_sqlite:  # SQLite's read transaction is a snapshot by itself
                connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            yield connection

    def note(self, statement: Update) -> None:
        """Write something useful but not needed: left out while the disk is full, so that people can still look."""
        with contextlib.suppress(DatabaseFullError), self.write() as connection:
            connection.execute(statement)

    def wait_patiently(self, connection: Connection) -> None:
        """Let this transaction, a backup or a migration, have no time-outs but the network's: it is long and rare."""
        if not self.is_sqlite:
            wait_patiently(connection)

    def check(self) -> None:
        """Raises SchemaError unless the schema is this version's."""
        found = self._revision()
        if found is None:
            raise SchemaError("the service's database has no tables yet", hint=_MIGRATE)
        if found != HEAD:
            raise SchemaError(
                f"the service's database has schema {found}, this version works with {HEAD}",
                hint="run: shiplap migrate"
                if found < HEAD
                else "it was made by a newer version of Shiplap: install it",
            )

    def close(self) -> None:
        self.engine.dispose()

    def _revision(self) -> str | None:
        try:
            with self.read() as connection:
                return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        except SchemaError:
            return None


def migrate(settings: ServiceSettings) -> list[str]:
    """Bring the schema up to date and return the revisions that were applied; several processes may call it at once.

    Makes the key of secrets, too. What root makes is given to the owner of ROOT, as whom web runs. Raises SecretError,
    SchemaError when the database is newer than this version, and what ``Database.open`` raises.
    """
    serve = settings.root / "serve"
    serve.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = (serve / "migrate.lock", settings.key_file, *_sqlite_files(settings))
    made = [path for path in files if not path.exists()]
    known = known_schemas()
    database = Database(_engine(settings))
    if database.is_sqlite:
        _let_tables_be_made_anew(database.engine)
    try:
        with _file_lock(serve / "migrate.lock"), database.write() as connection:
            if not database.is_sqlite:
                check_encoding(connection)
                wait_patiently(connection)
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            before = _applied(connection)
            if before is not None and before not in known:
                raise SchemaError(f"the database has schema {before}, which this version does not know")
            upgrade(connection, "head")
            settle_key(connection, KeyRing(settings.key_file))
        return known[known.index(before) + 1 :] if before else known
    finally:
        database.close()
        give(settings.root, serve, *(path for path in made if path.exists()))


def known_schemas() -> list[str]:
    """All schemas up to this version's, the oldest first."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()][::-1]


def upgrade(connection: Connection, schema: str) -> None:
    """Apply the migrations up to ``schema`` (or ``head``) that the database lacks."""
    from alembic import command

    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, schema)


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _applied(connection: Connection) -> str | None:
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sqlite_files(settings: ServiceSettings) -> list[Path]:
    """The file of an SQLite database; none of PostgreSQL."""
    url = _url(settings.database_url)
    return [Path(url.database or "")] if url.get_backend_name() == "sqlite" else []


def _engine(settings: ServiceSettings) -> Engine:
    url = _url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    return postgres_engine(url, _POOL_SIZE)


def _url(text_: str) -> URL:
    try:
        url = make_url(text_)
    except ArgumentError as error:
        raise SettingsError("SHIPLAP_DATABASE_URL is no database URL", hint=_URL_HINT) from error
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise SettingsError(f"SHIPLAP_DATABASE_URL names {url.drivername!r}", hint=_URL_HINT)
    if url.drivername == "sqlite" and not url.database:
        raise SettingsError("SHIPLAP_DATABASE_URL names no file", hint=_URL_HINT)
    return url


_NO_FILE: Final = (
    "the service's settings may name another: set SHIPLAP_DATABASE_URL, as /etc/shiplap/environment does for the units;"
    " a new service: shiplap migrate makes it"
)
_URL_HINT: Final = "write sqlite:////absolute/path.db or postgresql://USER:PASSWORD@HOST/DATABASE"


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, pool_size=_POOL_SIZE, max_overflow=-1, connect_args={"timeout": _BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: Any) -> None:
        del record
        connection.isolation_level = None  # BEGIN is ours, see below
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get("shiplap_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _let_tables_be_made_anew(engine: Engine) -> None:
    """Have foreign keys off, as SQLite wants it: who drops a table to replace it would lose all that refers to it."""

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: Any) -> None:
        del record
        connection.execute("PRAGMA foreign_keys=OFF")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into ours, as far as an administrator can do something about them."""
    try:
        yield
    except PoolTimeoutError as error:
        raise DatabaseUnreachableError("the database has no connection left for this request") from error
    except (OperationalError, InternalError, ProgrammingError) as error:
        raise _known(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnreachableError("the connection to the database was lost") from error
        raise


def _known(error: DBAPIError) -> Exception:
    message = str(error.orig)
    if "unable to open database file" in message:
        return SchemaError("the service's database cannot be opened: no such file, or no permission", hint=_MIGRATE)
    if "no such table" in message or "UndefinedTable" in type(error.orig).__name__:
        return SchemaError("the service's database lacks a table", hint=_MIGRATE)
    if "disk is full" in message or getattr(error.orig, "sqlstate", None) == _DISK_FULL:
        return DatabaseFullError("no space left on the disk of the service's database")
    if getattr(error.orig, "sqlstate", None) in _HELD:
        return DatabaseBusyError("somebody else holds what is to be changed in the database", hint="try again")
    if isinstance(error, ProgrammingError):
        return error
    first = message.strip().splitlines()[0] if message.strip() else type(error.orig).__name__
    kind = DatabaseDownError if _serves_nobody(error.orig) else DatabaseUnreachableError
    return kind(f"the database does not answer: {first}", hint="see SHIPLAP_DATABASE_URL")


def _serves_nobody(error: BaseException | None) -> bool:
    """Whether the trouble is the database's own. Mere silence does not count: the network may be the cause."""
    if isinstance(error, sqlite3.Error):  # a file: what keeps us from writing keeps everybody from writing
        return True
    if getattr(error, "sqlstate", None) in _NOT_SERVING:
        return True
    tried = [line for line in str(error).splitlines() if " failed: " in line]  # a line for each address
    return bool(tried) and all(line.endswith(_NOBODY_LISTENS) or _STARTS_OR_ENDS in line for line in tried)
