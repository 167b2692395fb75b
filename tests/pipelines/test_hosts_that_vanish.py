"""Hosts that die or lose their link: what they held is free again within seconds, and nobody waits for them for long.

They are network namespaces; the link is set down, so that nobody is told.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.database import migrate
from pipelines.errors import DatabaseBusyError
from pipelines.logs.lines import decode_line
from pipelines.model import ContextSource, Project, RunRequest
from pipelines.runs.reaper import Reaper
from pipelines.service import Service
from tests.toolkit.netns import Host, other_host
from tests.toolkit.service import PostgresServer, eventually, postgres_server, redis_server

SOURCE = ContextSource("sha256:" + "0" * 64)
OPEN = """
import sys, time
from pathlib import Path
from core.settings import ServiceSettings
from pipelines.service import Service
service = Service.open(ServiceSettings(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
"""
DIES_IN_A_CLAIM = f"""{OPEN}
from pipelines.runs.choosing import Chooser
with service.database.write() as connection:
    print(Chooser(connection, "gone", (), time.time(), sparing=False).choose().number, flush=True)
    time.sleep(1000)
"""
DIES_WHILE_IT_RENEWS = f"""{OPEN}
from pipelines.runs.claims import fence
claim = service.claims.take("gone", ())
with service.database.write() as connection:
    fence(connection, claim)
    print(claim.number, flush=True)
    time.sleep(1000)
"""
ASKS = f"""{OPEN}
from pipelines.errors import DatabaseUnreachableError
claim = service.claims.take("cut off", ())
print(claim.number, flush=True)
sys.stdin.readline()
began = time.monotonic()
try:
    service.claims.renew(claim)
except DatabaseUnreachableError:
    print(time.monotonic() - began, flush=True)
"""
BUILDS_WITHOUT_REDIS = f"""{OPEN}
from core.events import BuildPlanned, StepFinished, StepInfo, StepOutput, StepStarted
from core.masking import Masker
from pipelines.runs.logwriter import LogWriter
from pipelines.model import RunResult
claim = service.claims.take("w", ())
writer = LogWriter(claim, service.database, service.live, Masker(), lost=lambda: None)
writer.emit(BuildPlanned((StepInfo(0, "[1/1] RUN much", "", 1),)))
writer.emit(StepStarted(0, 1.0))
writer.emit(StepOutput(0, 1, b"before\\n", 1.0))
time.sleep(1)
print("half", flush=True)
sys.stdin.readline()
began = time.monotonic()
writer.emit(StepOutput(0, 1, b"after\\n", 1.0))
writer.emit(StepFinished(0, "done", 1.0, 1.0))
writer.close()
service.claims.finish(claim, "succeeded", "", RunResult(), store=writer.store)
print(time.monotonic() - began, flush=True)
"""


@pytest.fixture
def host(privileged: None) -> Iterator[Host]:
    with other_host() as made:
        yield made


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path is short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="shiplap-vanish-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def server(host: Host, short: Path) -> Iterator[PostgresServer]:
    with postgres_server(short / "pg", host.here) as made:
        yield made


@pytest.fixture
def near(server: PostgresServer, tmp_path: Path) -> Iterator[Service]:
    """The service as this host has it. Nobody needs Redis here."""
    settings = ServiceSettings(tmp_path / "root", server.url, "unix:///nonexistent/redis.sock")
    migrate(settings)
    with Service.open(settings) as service:
        yield service


def far(host: Host, tmp_path: Path) -> tuple[str, str, str]:
    """The service as the other host has it."""
    return str(tmp_path / "far"), f"postgresql://postgres@{host.here}/postgres", "unix:///nonexistent/redis.sock"


def test_host_that_dies_in_a_claim_keeps_nobody_waiting(near: Service, host: Host, tmp_path: Path) -> None:
    near.projects.put(Project("small", concurrency=3))
    for project in ("small", "small", "other"):
        near.runs.submit(RunRequest(SOURCE, project))
    gone = host.run(DIES_IN_A_CLAIM, *far(host, tmp_path))
    held = int(gone.says())
    assert near.runs.get(held).project == "small"
    host.cut_the_link()
    began = time.monotonic()
    claim = near.claims.take("w", ())
    assert claim is not None
    assert claim.run.project == "other"
    assert time.monotonic() - began < 4
    with pytest.raises(DatabaseBusyError):
        near.runs.cancel(held)
    eventually(lambda: near.claims.take("w", ()) is not None, timeout_s=45, why="what it held is free again")


def test_host_that_dies_while_it_renews_holds_up_no_other_run(near: Service, host: Host, tmp_path: Path) -> None:
    first, second = (near.runs.submit(RunRequest(SOURCE)).number for _ in range(2))
    gone = host.run(DIES_WHILE_IT_RENEWS, *far(host, tmp_path))
    assert int(gone.says()) == first
    host.cut_the_link()
    assert near.claims.take("dead, too", ()) is not None
    reaper = Reaper(near.database, near.claims, NoQueue(), lease_s=7)  # type: ignore[arg-type]  # no Redis is here

    def is_free(number: int) -> bool:
        reaper.reap()
        return near.runs.get(number).state == "queued"

    eventually(lambda: is_free(second), timeout_s=16, why="the other dead worker's run is free")
    assert near.runs.get(first).state == "running"
    eventually(lambda: is_free(first), timeout_s=45, why="the run of the host that vanished is free")


class NoQueue:
    def top_up(self, waiting: object) -> int:
        del waiting
        return 0


def test_host_whose_link_is_cut_is_told_so(near: Service, host: Host, tmp_path: Path) -> None:
    near.runs.submit(RunRequest(SOURCE))
    asks = host.run(ASKS, *far(host, tmp_path))
    assert asks.says() == "1"
    host.cut_the_link()
    asks.tell()
    assert float(asks.says()) < 45


def test_run_ends_with_its_whole_log_while_the_way_to_redis_is_cut(host: Host, short: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with redis_server(short, (host.here, 6390)):
        settings = ServiceSettings(root, f"sqlite:///{root}/serve/service.db", f"redis://{host.here}:6390/0")
        migrate(settings)
        with Service.open(settings) as service:
            number = service.runs.submit(RunRequest(SOURCE)).number
            worker = host.run(BUILDS_WITHOUT_REDIS, str(root), settings.database_url, settings.redis_url)
            assert worker.says() == "half"
            host.cut_the_link()
            worker.tell()
            assert float(worker.says()) < 60
            assert service.runs.get(number).state == "succeeded"
            texts = [decode_line(data).text for _, data in service.logs.read(number)]
            assert [text for text in texts if text in ("before", "after")] == ["before", "after"]
