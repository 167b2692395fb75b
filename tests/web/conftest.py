"""A service on SQLite and a Redis of its own, and an application on it that needs no sockets."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from core.settings import ServiceSettings
from pipelines.database import migrate
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.passwords import cheap_hashes as cheap_hashes
from web.app import create_app


@pytest.fixture(scope="session")
def redis_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Redis for the whole session; tests have runs of different databases in it, one after the other."""
    directory = tmp_path_factory.mktemp("redis")
    path = directory / "redis.sock"
    arguments = [
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--dir",
        str(directory),
        "--save",
        "",
        "--loglevel",
        "warning",
    ]
    with subprocess.Popen(["redis-server", *arguments]) as process:
        try:
            deadline = time.monotonic() + stretched(20)
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            yield path
        finally:
            process.terminate()


@pytest.fixture
def settings(tmp_path: Path, redis_socket: Path) -> ServiceSettings:
    import redis

    with redis.Redis(unix_socket_path=str(redis_socket)) as client:
        client.flushall()
    return ServiceSettings.from_environ({"SHIPLAP_REDIS_URL": f"unix://{redis_socket}"}, root=str(tmp_path / "root"))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables and nothing in them: migrating takes longer than most tests do.

    The key of its secrets is beside it.
    """
    settings = ServiceSettings.from_environ({}, root=str(tmp_path_factory.mktemp("database")))
    migrate(settings)
    return settings.root / "serve" / "service.db"


@pytest.fixture
def service(settings: ServiceSettings, empty_database: Path) -> Iterator[Service]:
    (settings.root / "serve").mkdir(parents=True)
    for path in (empty_database, empty_database.with_name("secret.key")):
        shutil.copy(path, settings.root / "serve")
    with Service.open(settings) as service:
        yield service


class Api:
    """Requests to an application as somebody with ``token``; answers are decoded JSON."""

    def __init__(self, client: FlaskClient, token: str) -> None:
        self.client = client
        self.token = token

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})} if self.token else {}
        if body is not None:
            options["json"] = body
        return self.client.open(f"/api/v1{path}", method=method, headers=headers, **options)

    def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200, **options: Any) -> Any:
        response = self.send(method, path, body, **options)
        assert response.status_code == status, response.get_data(as_text=True)
        return response.get_json(silent=True)


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service).test_client()


@pytest.fixture
def api(client: FlaskClient, service: Service) -> Api:
    """As an administrator."""
    return Api(client, service.tokens.create("test", ["admin"])[1])
