"""Both databases and one Redis for the tests of this room."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from core.settings import ServiceSettings
from pipelines.database import migrate
from pipelines.service import Service
from tests.toolkit.service import PostgresServer, RedisServer, postgres_server, redis_server

_names = (f"test{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    directory = Path(tempfile.mkdtemp(prefix="shiplap-redis-"))
    with redis_server(directory) as server:
        yield server
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def shared_postgres(privileged: None) -> Iterator[PostgresServer]:
    directory = Path(tempfile.mkdtemp(prefix="shiplap-postgres-"))
    directory.chmod(0o755)
    with postgres_server(directory / "pg") as server:
        yield server
    shutil.rmtree(directory)


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, shared_redis: RedisServer) -> ServiceSettings:
    """Of a service on an empty Redis and an empty database without tables."""
    shared_redis.empty()
    root = tmp_path / "root"
    url = f"sqlite:///{root}/serve/service.db"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("shared_postgres")
        name = next(_names)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = server.url.replace("/postgres?", f"/{name}?")
    return ServiceSettings(root, url, shared_redis.url)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables and nothing in them: copying it is quicker than migrating."""
    settings = ServiceSettings.from_environ({}, root=str(tmp_path_factory.mktemp("migrated")))
    migrate(settings)
    return settings.root / "serve" / "service.db"


@pytest.fixture(scope="session")
def migrated_postgres(shared_postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with all tables and nothing in them, for ``CREATE DATABASE … TEMPLATE``."""
    with psycopg.connect(shared_postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE migrated")
    url = shared_postgres.url.replace("/postgres?", "/migrated?")
    migrate(ServiceSettings(tmp_path_factory.mktemp("migrated"), url, ""))
    return "migrated"


@pytest.fixture
def service(settings: ServiceSettings, request: pytest.FixtureRequest) -> Iterator[Service]:
    if settings.database_url.startswith("sqlite:"):
        (settings.root / "serve").mkdir(parents=True)
        shutil.copy(request.getfixturevalue("migrated_sqlite"), settings.root / "serve")
    else:
        template = request.getfixturevalue("migrated_postgres")
        name = settings.database_url.partition("?")[0].rpartition("/")[2]
        with psycopg.connect(request.getfixturevalue("shared_postgres").url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name}")
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    with Service.open(settings) as opened:
        number_jobs_apart(opened)
        yield opened


def number_jobs_apart(service: Service) -> None:
    """Give jobs other numbers than their runs have: whoever takes one for the other is found out."""
    statement = "UPDATE sqlite_sequence SET seq = 1000 WHERE name = 'jobs'"
    if not service.database.is_sqlite:
        statement = "SELECT setval('jobs_number_seq', 1000)"
    with service.database.write() as connection:
        connection.execute(text(statement))
