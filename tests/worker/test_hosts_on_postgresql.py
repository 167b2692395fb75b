"""Workers of two hosts, with a store each, and one PostgreSQL and one Redis for all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from core.settings import ServiceSettings
from pipelines.database import migrate
from pipelines.runs.pipelines import PLANNING
from pipelines.schema import jobs
from pipelines.service import Service
from tests.toolkit.filesystems import mounted
from tests.toolkit.service import RedisServer, postgres_server
from tests.worker.conftest import import_base
from tests.worker.test_hosts import FILES, SPREAD, Hosts, hosts, outputs, repository, web
from tests.worker.test_worker_pipelines import Repository, log

__all__ = ["hosts", "repository", "web"]


@pytest.fixture
def settings(privileged: None, tmp_path: Path, broker: RedisServer, busybox_tar: Path) -> Iterator[ServiceSettings]:
    root, directory = tmp_path / "root", Path(tempfile.mkdtemp(prefix="shiplap-postgres-"))
    directory.chmod(0o755)
    import_base(root, busybox_tar)
    with mounted("tmpfs", directory) as memory, postgres_server(memory / "pg") as server:
        found = ServiceSettings(root, server.url, broker.url)
        migrate(found)
        yield found
    shutil.rmtree(directory)


def test_run_on_two_hosts_gives_the_digests_of_one(service: Service, hosts: Hosts, repository: Repository) -> None:
    spread = repository.run(FILES)
    assert spread.state == "succeeded", (spread.reason, log(service, spread.number, PLANNING))
    assert "hello" in log(service, spread.number, "change")
    assert "built" in log(service, spread.number, "inside")
    with service.database.read() as connection:
        of_run = (jobs.c.run == spread.number, jobs.c.kind == "job")
        assert len(set(connection.execute(select(jobs.c.host).where(*of_run)).scalars())) == 2
    single = repository.run({**FILES, ".shiplap.yml": SPREAD.replace("two", "one")})
    assert single.state == "succeeded", single.reason
    assert outputs(service, spread.number) == outputs(service, single.number)
