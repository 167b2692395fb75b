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
from tests.toolkit.filesystems import mounted
from tests.toolkit.passwords import cheap_hashes as cheap_hashes
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
    """In memory: each test has a database of its own, 300 files, and making and removing them is what takes long."""
    directory = Path(tempfile.mkdtemp(prefix="shiplap-postgres-"))
    directory.chmod(0o755)
    with mounted("tmpfs", directory) as memory, postgres_server(memory / "pg") as server:
        yield server
    shutil.rmtree(directory)


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, shared_redis: RedisServer) -> Iterator[ServiceSettings]:
    """Of a service on an empty Redis and an empty database: without tables, unless ``service`` is asked for, too."""
    shared_redis.empty()
    root = tmp_path / "root"
    has_tables = "service" in request.fixturenames
    if request.param == "sqlite":
        if has_tables:
            (root / "serve").mkdir(parents=True)
            shutil.copy(request.getfixturevalue("migrated_sqlite"), root / "serve")
        yield ServiceSettings(root, f"sqlite:///{root}/serve/service.db", shared_redis.url)
        return
    server: PostgresServer = request.getfixturevalue("shared_postgres")
    template = request.getfixturevalue("migrated_postgres") if has_tables else "template1"
    name = next(_names)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield ServiceSettings(root, server.url.replace("/postgres?", f"/{name}?"), shared_redis.url)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


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
def service(settings: ServiceSettings) -> Iterator[Service]:
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
