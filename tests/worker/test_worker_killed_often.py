"""SIGKILL of workers again and again in a run of 30 jobs: none is lost, none counts twice, none hangs.

``SHIPLAP_KILLS=20`` kills as often as was asked for; usually it is fewer, for each worker has to start.
"""

from __future__ import annotations

import os
import random
import time

import pytest
from sqlalchemy import select

from core.settings import ServiceSettings
from images.store import Store
from images.verify import verify
from pipelines.model import GitSource, RunRequest, Trigger
from pipelines.runs.pipelines import PLANNING
from pipelines.schema import jobs
from pipelines.service import Service
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.service import WorkerProcess, Workforce, finished
from tests.worker.test_worker_pipelines import Repository, attempts, log, states

KILLS = int(os.environ.get("SHIPLAP_KILLS", "4"))
WIDE = 10
MANY_ATTEMPTS = 10


def file() -> str:
    """Three rows of jobs, each of which needs two of the row above and hands on what they made; 30 in all."""
    found = ["jobs:"]
    for row, above in (("a", ""), ("b", "a"), ("c", "b")):
        for place in range(WIDE if row != "c" else WIDE - 1):
            needs = f"needs: [{above}{place}, {above}{(place + 1) % WIDE}], " if above else ""
            script = f"sleep 0.2; mkdir -p out; echo made > out/{row}{place}; ls out; echo did {row}{place}"
            found.append(f'  {row}{place}: {{{needs}image: base, outputs: [out], run: "{script}"}}')
    last = ", ".join(f"c{place}" for place in range(WIDE - 1))
    found.append(f'  last: {{needs: [{last}], image: base, run: "ls out | wc -l; cat out/* | sort -u"}}')
    return "\n".join(found) + "\n"


@pytest.fixture
def repository(service: Service, settings: ServiceSettings) -> Repository:
    return Repository(service, settings.root / "git" / "app")


def kill(service: Service, worker: WorkerProcess, name: str) -> int:
    """SIGKILL; its jobs are given back as the reaper does it, at once: a process of it may still be at work."""
    worker.kill()
    with service.database.read() as connection:
        wanted = select(jobs.c.number, jobs.c.attempt).where(jobs.c.worker == name, jobs.c.state == "running")
        lost = connection.execute(wanted).all()
    released = [service.claims.release(row.number, row.attempt, f"worker {name} was killed") for row in lost]
    return sum(run is not None for run in released)


def test_workers_that_are_killed_again_and_again_lose_no_job_and_double_none(
    service: Service, settings: ServiceSettings, workers: Workforce, repository: Repository
) -> None:
    chance = random.Random(20)
    commit = repository.commit({".shiplap.yml": file()})
    trigger = Trigger("push", "ada", branch="main", commit=commit, default_branch="main")
    request = RunRequest(GitSource(repository.url, commit, branch="main"), "app", max_attempts=MANY_ATTEMPTS)
    number = service.runs.submit(request, trigger).number
    lost = 0
    for round_ in range(KILLS):
        worker = workers.start("--concurrency", "2")
        name = f"worker-{round_ + 1}"

        def is_at_work(name: str = name) -> bool:
            return service.runs.get(number).is_final or any(view.worker == name for view in service.jobs.list(number))

        eventually(is_at_work, why=f"{name} has a job")
        assert not service.runs.get(number).is_final, "the run has to last until the last kill"
        time.sleep(chance.uniform(0.0, 0.5))
        lost += kill(service, worker, name)
    assert lost >= KILLS // 2, "kills that hit nothing show nothing"
    workers.start("--concurrency", "2")
    run = finished(service, number, timeout_s=stretched(120.0))
    told = {
        name: log(service, number, name)[-3:] for name, state in states(service, number).items() if state != "succeeded"
    }
    assert (run.state, told) == ("succeeded", {}), run.reason
    found = states(service, number)
    assert len(found) == 31
    assert sum(attempts(service, number).values()) == len(found) + lost, "each kill is an attempt more, and no other is"
    for name in found:
        lines = log(service, number, name)
        assert lines.count("succeeded") == (name != PLANNING), (name, lines)
        assert lines.count(f"did {name}") <= attempts(service, number)[name]
    assert log(service, number, "last").count("made") == 1
    assert str(3 * WIDE - 1) in log(service, number, "last")
    assert len(service.runs.list()) == 1
    workers.end()
    with Store.open(settings.root) as store:
        assert len(store.kept.names(f"run/{number}/")) == 3 * WIDE - 1
        assert verify(store) == []
