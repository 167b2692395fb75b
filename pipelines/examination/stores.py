"""Looks at what stores the service's state: the database, the key, Redis; and at their clocks."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from core.errors import ShiplapError
from core.settings import ServiceSettings
from pipelines.examination.findings import Finding, State

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from pipelines.database import Database

_APART_WARN_S: Final = 10.0
_APART_FAILED_S: Final = 60.0  # sign-ins and tokens tolerate this much
_OF_CONTAINER: Final = "/run/secrets"  # where compose puts files for all users of a container, and nobody else
_SEE_DATABASE: Final = 'docs/deploy.md, "PostgreSQL and Redis", has the lines that make it'


class _UndoneError(Exception):
    """Raised to undo a trial write, which only tested whether writing is allowed."""


def look_at_database(settings: ServiceSettings) -> Iterator[Finding]:
    """Look at the database: connect, compare the schema, write and undo it, compare the clock."""
    from pipelines.database import Database

    name = "database"
    file = sqlite_file(settings)
    if file is not None and not os.path.exists(file):
        yield Finding(
            name, "FAILED", f"there is no {file} yet", "run: shiplap migrate; shiplap serve does it by itself"
        )
        return
    began = time.monotonic()
    with contextlib.closing(Database.open(settings)) as database:
        with database.read() as connection:
            what = _described(connection, database)
            took_ms = (time.monotonic() - began) * 1000
            yield from _encoding(connection, database)
            if not database.is_sqlite:
                there = float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
                yield clock("clock of the database", there)
        with contextlib.suppress(_UndoneError), database.write() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
            raise _UndoneError
    yield Finding(name, "OK", f"{what}; opened, read and written in {took_ms:.0f} ms")


def look_at_key(settings: ServiceSettings) -> Iterator[Finding]:
    """Look at the key: compare this host's key with the number in the database."""
    from pipelines.database import Database
    from pipelines.keys.keynumbers import check_key, noted_number
    from pipelines.keys.keyring import KeyRing, number_of

    name, file = "key of secrets", settings.key_file
    ring = KeyRing(file)
    kept = ring.kept()
    if kept and os.stat(file).st_mode & 0o077 and not file.is_relative_to(_OF_CONTAINER):
        yield Finding(name, "WARN", f"others may read {file}", f"chmod 600 {file}")
    database_file = sqlite_file(settings)
    own = f"{file} has the number {number_of(kept[0])}" if kept else f"there is no {file}"
    if database_file is not None and not os.path.exists(database_file):
        yield Finding(name, "WARN", f"{own}; there is no database to compare with", "run: shiplap migrate")
        return
    try:
        with contextlib.closing(Database.open(settings)) as database, database.read() as connection:
            noted = noted_number(connection)
            check_key(connection, ring)  # its error says which file to copy from where
    except ShiplapError as error:
        from pipelines.errors import SecretError

        if isinstance(error, SecretError):
            raise
        yield Finding(name, "WARN", f"{own}; not compared: the database was not reached", "mend the database first")
        return
    if noted is None:
        yield Finding(name, "WARN", f"{own}; the database has no number of a key yet", "run: shiplap migrate")
    else:
        yield Finding(name, "OK", f"{file} has the number {noted}, as the database says")


def look_at_redis(settings: ServiceSettings) -> Iterator[Finding]:
    """Look at Redis: log in, write a key that expires and delete it, read memory and policy, compare the clock."""
    import redis

    from pipelines.runs.queue import redis_client

    name = "Redis"
    client = redis_client(settings.redis_url)
    began = time.monotonic()
    try:
        client.ping()
        key = f"shiplap:doctor:{os.urandom(8).hex()}"
        client.set(key, b"x", ex=30)
        client.delete(key)
        took_ms = (time.monotonic() - began) * 1000
        seconds, microseconds = client.time()
        info = client.info()
    except redis.AuthenticationError as error:
        yield Finding(name, "FAILED", f"it refuses the log-in: {error}", "the password is part of SHIPLAP_REDIS_URL")
        return
    except redis.RedisError as error:
        yield Finding(name, "FAILED", str(error), _redis_remedy(settings))
        return
    finally:
        client.close()
    yield clock("clock of Redis", seconds + microseconds / 1e6)
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and int(info.get("maxmemory", 0)):
        yield Finding(
            name, "WARN", f"when its memory is full it forgets what waits: {policy}", "set maxmemory-policy noeviction"
        )
    yield Finding(name, "OK", f"version {info.get('redis_version')}; asked and written in {took_ms:.0f} ms")


def clock(name: str, there: float) -> Finding:
    """The finding about another host's clock. there: its time now, in seconds since the epoch."""
    apart_s = there - time.time()
    if abs(apart_s) < _APART_WARN_S:
        return Finding(name, "OK", f"{abs(apart_s):.1f} s from this host's")
    state: State = "FAILED" if abs(apart_s) > _APART_FAILED_S else "WARN"
    order = "ahead of" if apart_s > 0 else "behind"
    return Finding(
        name, state, f"{abs(apart_s):.0f} s {order} this host's", "set both by NTP: timedatectl set-ntp true"
    )


def sqlite_file(settings: ServiceSettings) -> str | None:
    """The file of an SQLite database; None for PostgreSQL."""
    scheme, _, rest = settings.database_url.partition("://")
    return rest[1:] if scheme.startswith("sqlite") else None


def _described(connection: Connection, database: Database) -> str:
    from pipelines.schema import HEAD

    if database.is_sqlite:
        version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
        return f"SQLite {version}, schema {HEAD}"
    version = str(connection.exec_driver_sql("SHOW server_version").scalar_one()).partition(" ")[0]
    return f"PostgreSQL {version}, schema {HEAD}"


def _encoding(connection: Connection, database: Database) -> Iterator[Finding]:
    if database.is_sqlite:
        return
    found = str(connection.exec_driver_sql("SHOW server_encoding").scalar_one())
    if found != "UTF8":
        yield Finding("database", "FAILED", f"its encoding is {found}, and logs need UTF8", _SEE_DATABASE)


def _redis_remedy(settings: ServiceSettings) -> str:
    if urlsplit(settings.redis_url).scheme == "unix" and settings.redis_url.endswith("/serve/redis/redis.sock"):
        return "shiplap serve starts it; without serve, name one in SHIPLAP_REDIS_URL"
    return "see SHIPLAP_REDIS_URL, and whether Redis runs and listens there"
