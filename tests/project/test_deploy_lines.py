"""The lines of docs/deploy.md that make a database and set up Redis, as they are printed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from textwrap import dedent

import psycopg
import redis

from core.settings import ServiceSettings
from pipelines.database import Database, migrate
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.service import postgres_server

_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "deploy.md").read_text()


def _block(beginning: str) -> str:
    found = re.search(rf"^    {beginning}.*?\n\n", _PAGE, re.MULTILINE | re.DOTALL)
    assert found, beginning
    return dedent(found[0])


def test_database_that_the_page_makes_is_one_that_works(privileged: None, tmp_path: Path, short_path: Path) -> None:
    """Also in a cluster of another encoding: initdb without a locale makes SQL_ASCII."""
    statements = _block("CREATE ROLE").partition("\nSQL\n")[0]
    with postgres_server(short_path / "pg") as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            for statement in filter(str.strip, statements.split(";")):
                connection.execute(statement.encode())
        url = f"postgresql://shiplap:PASSWORD@/shiplap?host={server.directory}"
        settings = ServiceSettings.from_environ({"SHIPLAP_DATABASE_URL": url}, root=str(tmp_path))
        migrate(settings)
        database = Database.open(settings)
        try:
            with database.read() as connection_:
                assert connection_.exec_driver_sql("SHOW server_encoding").scalar_one() == "UTF8"
        finally:
            database.close()


def test_redis_takes_the_lines_of_the_page(short_path: Path) -> None:
    lines = [line for line in _block("bind 127.0.0.1").splitlines() if line]
    assert lines[0].startswith("bind")
    socket = short_path / "r.sock"
    file = short_path / "redis.conf"
    file.write_text("\n".join([*lines[1:], "port 0", f"unixsocket {socket}", f"dir {short_path}", ""]))
    with subprocess.Popen(["redis-server", file], stdout=subprocess.DEVNULL) as process:
        try:
            eventually(socket.exists, why="Redis listens")
            with redis.Redis(unix_socket_path=str(socket), password="PASSWORD", socket_timeout=stretched(20)) as client:
                assert client.ping()
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
                assert client.config_get("save") == {"save": ""}
        finally:
            process.terminate()
