"""The service behind PgBouncer, in both of its modes: it is let in, and its time-outs hold."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from core.settings import ServiceSettings
from pipelines.database import migrate
from pipelines.errors import DatabaseBusyError, DatabaseUnreachableError
from pipelines.model import ContextSource, RunRequest, RunResult
from pipelines.service import Service
from tests.toolkit.service import PostgresServer, RedisServer, eventually

SOURCE = ContextSource("sha256:" + "0" * 64)
_PORT = 6432
_numbers = itertools.count()


@pytest.fixture(params=["session", "transaction"])
def pooled(
    request: pytest.FixtureRequest, shared_postgres: PostgresServer, shared_redis: RedisServer, tmp_path: Path
) -> Iterator[ServiceSettings]:
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    assert program, "pgbouncer is not installed: scripts/install-debian test"
    name = f"pooled{next(_numbers)}"
    with psycopg.connect(shared_postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    directory = Path(tempfile.mkdtemp(prefix="shiplap-pool-"))
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n{name} = host={shared_postgres.directory} dbname={name} user=postgres\n"
        f"[pgbouncer]\nlisten_addr =\nunix_socket_dir = {directory}\nlisten_port = {_PORT}\nauth_type = any\n"
        f"pool_mode = {request.param}\ndefault_pool_size = 4\nmax_prepared_statements = 100\n"
    )
    shutil.chown(directory, "postgres", "postgres")
    directory.chmod(0o755)
    with subprocess.Popen(
        [program, "-q", directory / "pgbouncer.ini"],
        user="postgres", group="postgres", extra_groups=[], cwd="/", stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            eventually(lambda: (directory / f".s.PGSQL.{_PORT}").exists(), why="pgbouncer listens")
            url = f"postgresql://postgres@/{name}?host={directory}&port={_PORT}"
            yield ServiceSettings(tmp_path / "root", url, shared_redis.url)
        finally:
            process.terminate()
    shutil.rmtree(directory)


def test_runs_go_from_queued_to_succeeded_by_many_at_once(pooled: ServiceSettings) -> None:
    migrate(pooled)
    with Service.open(pooled) as service:
        numbers = [service.runs.submit(RunRequest(SOURCE)).number for _ in range(40)]

        def work() -> None:
            while (claim := service.claims.take("w", ())) is not None:
                service.claims.renew(claim)
                service.claims.finish(claim, "succeeded", "", RunResult(), store=lambda connection: None)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [run.state for run in service.runs.list(limit=100)] == ["succeeded"] * len(numbers)


def test_time_outs_hold_in_every_transaction(pooled: ServiceSettings) -> None:
    migrate(pooled)
    with Service.open(pooled) as service:
        number = service.runs.submit(RunRequest(SOURCE)).number
        shown = text("SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')")
        for _ in range(10):
            with service.database.read() as connection:
                assert tuple(connection.execute(shown).one()) == ("5s", "20s")
        with service.database.write() as connection:
            service.database.wait_patiently(connection)
            assert tuple(connection.execute(shown).one()) == ("0", "0")
            connection.execute(text("SELECT 1 FROM runs FOR UPDATE"))
            began = time.monotonic()
            with pytest.raises(DatabaseBusyError):
                service.runs.cancel(number)
            assert 4 < time.monotonic() - began < 15
        assert service.runs.cancel(number).state == "cancelled"


def test_transaction_of_a_client_that_says_nothing_is_ended(
    pooled: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(pooled)
    monkeypatch.setattr("pipelines.postgres._BEGIN", "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '500ms'")
    with Service.open(pooled) as service:

        def be_silent() -> None:
            with service.database.write() as connection:
                connection.execute(text("SELECT 1"))
                time.sleep(3)
                connection.execute(text("SELECT 1"))

        with pytest.raises(DatabaseUnreachableError):
            be_silent()
        with service.database.read() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
