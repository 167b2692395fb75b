"""SIGKILL while services run: of the worker, its launcher, the job, a service. Soon nothing is left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from pathlib import Path

import pytest

from core.settings import ServiceSettings
from pipelines.service import Service
from tests.toolkit.bounds import eventually
from tests.toolkit.host import command_lines
from tests.toolkit.service import Workforce, finished
from tests.worker.test_worker_pipelines import Repository, log, states

GONE_S = 5.0


@pytest.fixture
def repository(service: Service, settings: ServiceSettings) -> Repository:
    return Repository(service, settings.root / "git" / "app")


def with_mark(mark: str) -> dict[int, str]:
    return {pid: line for pid, line in command_lines().items() if mark in line}


def networks(pids: set[int]) -> set[str]:
    """The network namespaces of processes, by number. A bridge and its cables are gone with the last who is in one."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
    return found - {os.readlink("/proc/self/ns/net")}


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def launcher_of(pid: int) -> int:
    """The process that started a container: the nearest one above that is in the host's process namespace."""
    own = os.readlink("/proc/self/ns/pid")
    while os.readlink(f"/proc/{pid}/ns/pid") != own:
        pid = parent(pid)
    return pid


@pytest.mark.parametrize("victim", ["worker", "launcher", "job", "service"])
def test_killed_while_services_run_nothing_is_left(
    service: Service, workers: Workforce, repository: Repository, victim: str
) -> None:
    mark = uuid.uuid4().hex
    text = f"""
services:
  one: {{image: base, args: [sh, -c, "sleep 600; echo {mark} one"], ready: "true"}}
  two: {{image: base, args: [sh, -c, "nc -l -p 7000 </dev/null; sleep 600; echo {mark} two"], ready: 7000}}
jobs:
  a: {{image: base, services: [one, two], retry: 0, args: [sh, -c, "sleep 600; echo {mark} job"]}}
"""
    worker = workers.start("--concurrency", "1")
    number = repository.push({".shiplap.yml": text})
    eventually(
        lambda: {line.split()[-1].strip('"') for line in with_mark(mark).values()} >= {"one", "two", "job"},
        why="the job and its services run",
    )
    running = with_mark(mark)
    # A shell that has just forked is there twice; the older process is the shell.
    job = min(pid for pid, line in running.items() if line.split()[-1] == "job" and "sleep" in line)
    one = min(pid for pid, line in running.items() if line.split()[-1] == "one")
    inside = networks(set(running))
    assert len(inside) >= 3, "each container has its own"
    launcher = launcher_of(one)
    killed = {"worker": worker.process.pid, "launcher": launcher, "job": job, "service": one}[victim]
    os.kill(killed, signal.SIGKILL)

    def is_gone() -> bool:
        return not set(with_mark(mark)) & set(running) and not networks(set(command_lines())) & inside

    eventually(is_gone, timeout_s=GONE_S, why=f"nothing is left after a {victim} was killed")
    if victim in ("job", "service"):
        run = finished(service, number)
        assert states(service, number)["a"] == "failed", log(service, number, "a")
        assert "signal 9" in run.reason
        return
    service.runs.cancel(number)  # else it is tried again
