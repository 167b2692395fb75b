"""How the service connects to PostgreSQL, so that a host that dies holds up nobody else.

A host that loses its power or its link says no goodbye: what it locked stays locked until somebody notices. Three
bounds see to that, on both sides of each connection:

- the *network's*: a peer whose bytes are not acknowledged for _UNHEARD_S, or who does not answer probes, is gone;
- an *idle transaction's*: the server ends one whose client is silent for _IDLE_S, and takes back its locks;
- a *lock's*: nobody waits for one longer than _LOCK_S. Who gives up gets ``DatabaseBusyError``, and tries again.

The client's side is set by libpq's own parameters. The server's side is set by statements: PgBouncer refuses, at the
start of a connection, parameters that it does not know. A transaction's bounds go along with its BEGIN, in one message:
PgBouncer may give each transaction another connection to the server, so no earlier statement can be relied upon.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL, Connection, Engine

from pipelines.errors import SchemaError

_CONNECT_S: Final = 5
_UNHEARD_S: Final = 15
_PROBE_AFTER_S: Final = 5
_PROBE_EVERY_S: Final = 5
_PROBES: Final = 3
_LOCK_S: Final = 5
_IDLE_S: Final = 20

_BEGIN: Final = f"""\
BEGIN; SET LOCAL lock_timeout = '{_LOCK_S}s'; SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_S}s'"""
_PATIENT: Final = ("SET LOCAL lock_timeout = 0", "SET LOCAL idle_in_transaction_session_timeout = 0")
_NETWORK: Final = (  # for the server's end; without effect on a Unix socket
    f"SET tcp_keepalives_idle = {_PROBE_AFTER_S}; SET tcp_keepalives_interval = {_PROBE_EVERY_S}; "
    f"SET tcp_keepalives_count = {_PROBES}; SET tcp_user_timeout = {_UNHEARD_S * 1000}"
)


class Dialect(PGDialect_psycopg):
    """SQLAlchemy's dialect, but BEGIN is ours: the driver's connections are in autocommit, and send none themselves."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        """Begin a transaction that has its bounds."""
        dbapi_connection.driver_connection.execute(_BEGIN, prepare=False)


registry.register("postgresql.shiplap", __name__, Dialect.__name__)


def postgres_engine(url: URL, pool_size: int) -> Engine:
    """An engine whose every connection and transaction has these bounds."""
    engine = create_engine(
        url.set(drivername="postgresql+shiplap"),
        pool_size=pool_size,
        pool_pre_ping=True,
        connect_args={
            "application_name": "shiplap",
            "client_encoding": "UTF8",  # else the database's, and text of SQL_ASCII comes as bytes
            "autocommit": True,
            "connect_timeout": _CONNECT_S,
            "keepalives": 1,
            "keepalives_idle": _PROBE_AFTER_S,
            "keepalives_interval": _PROBE_EVERY_S,
            "keepalives_count": _PROBES,
            "tcp_user_timeout": _UNHEARD_S * 1000,
        },
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        del record
        connection.execute(_NETWORK, prepare=False)

    return engine


def wait_patiently(connection: Connection) -> None:
    """Let this transaction, from here to its end, wait for locks and be silent for however long."""
    for statement in _PATIENT:
        connection.exec_driver_sql(statement)


def check_encoding(connection: Connection) -> None:
    """Raises SchemaError unless the database holds all of Unicode: names and messages may have any letter."""
    name, encoding = connection.exec_driver_sql("SELECT current_database(), current_setting('server_encoding')").one()
    if encoding != "UTF8":
        raise SchemaError(
            f"the database {name} has the encoding {encoding}, and Shiplap needs UTF8",
            hint="make another, and name it in SHIPLAP_DATABASE_URL: createdb -E UTF8 -T template0 -O USER NAME",
        )
