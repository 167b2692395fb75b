"""What else goes wrong in a run of jobs: Redis emptied, the database away, a mirror damaged. No job is lost or doubled.

``SHIPLAP_AWAY=30`` has the database away for as many seconds as was asked for; usually it is a moment.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import ServiceSettings
from images.store import Store
from images.verify import verify
from pipelines.database import migrate
from pipelines.runs.pipelines import PLANNING
from pipelines.service import Service
from tests.ci.source.repositories import spoil
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.git import git
from tests.toolkit.service import PostgresServer, RedisServer, Workforce, finished, postgres_server, workforce
from tests.worker.test_worker_pipelines import Repository, attempts, log, states

AWAY_S = float(os.environ.get("SHIPLAP_AWAY", "2"))
CHAIN = """
jobs:
  a: {image: base, outputs: [out], run: "mkdir out; sleep 1; echo a > out/a; echo did a"}
  b: {image: base, needs: a, outputs: [out], run: "sleep 1; cat out/a > out/b; echo did b"}
  c: {image: base, needs: b, outputs: [out], run: "sleep 1; cat out/b > out/c; echo did c"}
  side: {image: base, outputs: [side], run: "sleep 2; echo s > side; echo did side"}
  last: {image: base, needs: [c, side], run: "cat out/c side; echo did last"}
"""
FORCED = """
jobs:
  a: {image: base, outputs: [seen], run: "cat turn; cat turn > seen"}
  b: {image: base, needs: a, run: cat seen}
"""
NAMES = ("a", "b", "c", "side", "last")


def check(service: Service, number: int) -> None:
    """All jobs were done, each of them once as far as anybody can see."""
    run = finished(service, number, timeout_s=stretched(60.0))
    assert run.state == "succeeded", run.reason
    assert states(service, number) == dict.fromkeys((PLANNING, *NAMES), "succeeded")
    for name in NAMES:
        lines = log(service, number, name)
        assert lines.count("succeeded") == 1, (name, lines)
        assert f"did {name}" in lines
    assert {"a", "s"} <= set(log(service, number, "last"))
    with Store.open(service.settings.root) as store:
        assert len(store.kept.names(f"run/{number}/")) == len(NAMES) - 1
        assert verify(store) == []


def test_redis_emptied_in_the_middle_of_a_run_of_jobs(
    service: Service, settings: ServiceSettings, workers: Workforce, broker: RedisServer
) -> None:
    repository = Repository(service, settings.root / "git" / "app")
    workers.start("--concurrency", "1")
    workers.start("--concurrency", "1")
    number = repository.push({".shiplap.yml": CHAIN})
    for name in ("a", "b", "c"):
        eventually(lambda name=name: states(service, number).get(name) == "running", why=f"{name} runs")  # type: ignore[misc]
        broker.empty()
    check(service, number)
    assert set(attempts(service, number).values()) == {1}


@pytest.fixture
def postgres(privileged: None) -> Iterator[PostgresServer]:
    directory = Path(tempfile.mkdtemp(prefix="shiplap-postgres-"))
    directory.chmod(0o755)
    with postgres_server(directory / "pg") as server:
        yield server
    shutil.rmtree(directory)


def test_database_away_in_the_middle_of_a_run_of_jobs(
    settings: ServiceSettings, postgres: PostgresServer, tmp_path: Path
) -> None:
    on_postgres = settings._replace(database_url=postgres.url)
    migrate(on_postgres)
    with Service.open(on_postgres) as service, workforce(on_postgres, tmp_path) as workers:
        repository = Repository(service, settings.root / "git" / "app")
        workers.start("--concurrency", "2")
        number = repository.push({".shiplap.yml": CHAIN})
        eventually(lambda: states(service, number).get("b") == "running", why="b runs")
        postgres.control("-m", "immediate", "stop")
        time.sleep(AWAY_S)
        postgres.control("start")
        check(service, number)


def test_damaged_mirror_costs_a_run_no_attempt(service: Service, settings: ServiceSettings, workers: Workforce) -> None:
    """What a fetch does not notice: the pipeline file itself cannot be read."""
    repository = Repository(service, settings.root / "git" / "app")
    padding = "".join(f"# {os.urandom(30).hex()}\n" for _ in range(100))
    workers.start("--concurrency", "1")
    assert finished(service, repository.push({".shiplap.yml": FORCED + padding, "turn": "1"})).state == "succeeded"
    (packs,) = (settings.root / "mirrors").glob("*/repository/objects/pack")
    spoil(packs)
    number = repository.push({"turn": "2"})
    run = finished(service, number)
    assert run.state == "succeeded", run.reason
    assert set(attempts(service, number).values()) == {1}
    assert "2" in log(service, number, "b")


def test_branch_that_is_pushed_by_force_again_and_again_while_its_commits_are_fetched(
    service: Service, settings: ServiceSettings, workers: Workforce
) -> None:
    """Each run is of the commit that it was begun for, whatever the branch is when it is fetched, and when it runs."""
    repository = Repository(service, settings.root / "git" / "app")
    git(repository.path, "commit", "--quiet", "--allow-empty", "-m", "root")
    base = git(repository.path, "rev-parse", "HEAD")
    workers.start("--concurrency", "2")
    numbers = []
    for turn in range(8):
        git(repository.path, "reset", "--quiet", "--hard", base)
        numbers.append(repository.push({".shiplap.yml": FORCED, "turn": f"turn {turn}\n"}))
    for turn, number in enumerate(numbers):
        run = finished(service, number)
        assert run.state == "succeeded", run.reason
        assert {f"turn {turn}"} == {line for line in log(service, number, "a") if line.startswith("turn ")}
        assert f"turn {turn}" in log(service, number, "b")
