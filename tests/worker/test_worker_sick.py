"""A worker that is set up wrongly: it takes no run three times within a second, and soon none at all."""

from __future__ import annotations

import time
from pathlib import Path

from pipelines.model import BuildOptions, Run, RunRequest, WorkerInfo
from pipelines.service import Service
from tests.toolkit.service import FOR_ALL, Workforce, eventually, finished, upload

_SECRET = "FROM base\nRUN --mount=type=secret,id=TOKEN test -s /run/secrets/TOKEN && echo {}\n"


def submit(service: Service, number: int) -> Run:
    source = upload(service.contexts, {"Dockerfile": _SECRET.format(number)})
    return service.runs.submit(RunRequest(source, options=BuildOptions(secrets=("TOKEN",)), max_attempts=8))


def info(service: Service, name: str) -> WorkerInfo:
    return next(worker for worker in service.workers.list() if worker.name == name)


def start_without_key(service: Service, workers: Workforce, tmp_path: Path) -> None:
    """Start a worker that soon opens no secret any more: its key becomes another service's."""
    key = tmp_path / "copy.key"
    key.write_bytes(service.secrets.keys.file.read_bytes())
    key.chmod(0o600)
    workers.start("--concurrency", "1", environ={"SHIPLAP_SECRET_KEY_FILE": str(key)})
    key.write_bytes(bytes(range(32)))


def test_misconfigured_worker_does_not_use_up_the_attempts_of_a_run(
    service: Service, workers: Workforce, tmp_path: Path
) -> None:
    service.secrets.put("TOKEN", b"a value", project="default", policy=FOR_ALL)
    start_without_key(service, workers, tmp_path)
    run = submit(service, 1)
    began = time.monotonic()
    eventually(lambda: service.runs.get(run.number).attempt == 2, why="it is tried again")
    assert time.monotonic() - began > 2.5
    workers.start("--concurrency", "1")
    ended = finished(service, run.number)
    assert (ended.state, ended.worker) == ("succeeded", "worker-2")


def test_misconfigured_worker_is_sick_and_says_why_while_others_go_on(
    service: Service, workers: Workforce, tmp_path: Path
) -> None:
    service.secrets.put("TOKEN", b"a value", project="default", policy=FOR_ALL)
    start_without_key(service, workers, tmp_path)
    for number in range(3):
        submit(service, number)
    eventually(lambda: info(service, "worker-1").state == "sick", why="the misconfigured worker is sick")
    assert "3 runs in a row failed by the machine's fault" in info(service, "worker-1").trouble
    workers.start("--concurrency", "1")
    runs = [*service.runs.list(), *(submit(service, number) for number in range(3, 6))]
    for run in runs:
        ended = finished(service, run.number)
        assert ended.state == "succeeded"
        assert ended.worker == "worker-2"
