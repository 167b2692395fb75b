"""Both databases and one Redis for the tests of this room."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

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


@pytest.fixture
def service(settings: ServiceSettings) -> Iterator[Service]:
    migrate(settings)
    with Service.open(settings) as opened:
        yield opened
