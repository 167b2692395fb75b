"""Runs that are too big for something: a full disk, a huge context, an endless log."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import StorageFullError
from core.settings import ServiceSettings
from pipelines.database import migrate
from pipelines.logs.lines import decode_line
from pipelines.model import RunRequest
from pipelines.service import Service
from tests.toolkit.service import RedisServer, Workforce, eventually, finished, upload, workforce
from tests.worker.conftest import import_base


@contextlib.contextmanager
def tmpfs(directory: Path, size: str) -> Iterator[Path]:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(disk: Path, *, leave_bytes: int = 0) -> Path:
    """A file that takes all the room that there is, but ``leave_bytes``."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):  # until nothing more fits
            while True:
                file.write(bytes(4096))
        file.truncate(file.tell() - leave_bytes)
    return filler


@pytest.fixture
def disk(privileged: None, tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "disk", "96m") as mounted:
        yield mounted


@pytest.fixture
def settings(disk: Path, broker: RedisServer, busybox_tar: Path) -> ServiceSettings:
    root = disk / "root"
    made = ServiceSettings(root, f"sqlite:///{root}/serve/service.db", broker.url)
    import_base(root, busybox_tar)
    migrate(made)
    return made


@pytest.fixture
def workers(settings: ServiceSettings, disk: Path, tmp_path: Path) -> Iterator[Workforce]:
    with workforce(settings, tmp_path) as force:
        yield force


def output(service: Service, number: int) -> list[str]:
    lines = [decode_line(data) for _, data in service.logs.read(number)]
    return [line.text for line in lines if line.kind == "output"]


def test_run_goes_on_when_the_full_disk_of_the_database_has_room_again(
    broker: RedisServer, disk: Path, tmp_path: Path, busybox_tar: Path
) -> None:
    settings = ServiceSettings(tmp_path / "root", f"sqlite:///{disk}/service.db", broker.url)
    import_base(settings.root, busybox_tar)
    migrate(settings)
    with Service.open(settings) as service, workforce(settings, tmp_path) as workers:
        workers.start("--concurrency", "1")
        source = upload(
            service.contexts, {"Dockerfile": "FROM base\nRUN for n in $(seq 40); do echo $n; sleep 0.1; done\n"}
        )
        run = service.runs.submit(RunRequest(source))
        eventually(lambda: len(output(service, run.number)) > 5, why="the step runs")
        filler = fill(disk)
        eventually(lambda: "40" in output(service, run.number), why="the step ends: Redis has the lines")
        eventually(lambda: "its end waits" in workers.workers[0].log.read_text(), why="the build ends")
        assert service.runs.get(run.number).state == "running"
        filler.unlink()
        ended = finished(service, run.number)
        assert (ended.state, ended.attempt) == ("succeeded", 1)
        assert output(service, run.number) == [str(n) for n in range(1, 41)]


def test_full_disk_is_told_when_the_first_secret_needs_a_key(service: Service, disk: Path) -> None:
    filler = fill(disk)
    with pytest.raises(StorageFullError):
        service.secrets.put("key", b"correct horse")
    filler.unlink()
    service.secrets.put("key", b"correct horse")
    assert service.secrets.reveal(["key"]) == {"key": b"correct horse"}


def test_run_whose_image_does_not_fit_is_tried_again_and_given_up(
    service: Service, workers: Workforce, disk: Path
) -> None:
    source = upload(service.contexts, {"Dockerfile": "FROM base\nCOPY big /\n", "big": bytes(20 << 20)})
    workers.start("--concurrency", "1")
    filler = fill(disk, leave_bytes=10 << 20)
    run = finished(service, service.runs.submit(RunRequest(source, max_attempts=2)).number)
    assert (run.state, run.attempt) == ("error", 2)
    assert "no space left" in run.reason
    filler.unlink()
    assert finished(service, service.runs.retry(run.number).number).state == "succeeded"


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(found for child in children for found in descendants(child))]


def peak_memory_bytes(pid: int) -> int:
    """The most that the process ever had resident."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


def test_log_of_a_gigabyte_passes_through_little_memory(
    service: Service, workers: Workforce, broker: RedisServer
) -> None:
    worker = workers.start("--concurrency", "1")
    printed = "x" * 999
    source = upload(service.contexts, {"Dockerfile": f"FROM base\nRUN yes {printed} | head -c 1000000000\n"})
    ended = finished(service, service.runs.submit(RunRequest(source)).number, timeout_s=240)
    assert ended.state == "succeeded"
    assert ended.log_bytes > 1_000_000_000
    assert ended.lines > 1_000_000
    assert [decode_line(data).text for _, data in service.logs.read(ended.number, 777_777, 2)] == [printed] * 2
    assert broker.process is not None
    for process in (*descendants(worker.process.pid), broker.process.pid):
        assert peak_memory_bytes(process) < 400 << 20, Path(f"/proc/{process}/cmdline").read_bytes()
