"""Shells in jobs on a service with real workers: by the real command, in a real terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import uuid
from collections.abc import Iterator
from fcntl import ioctl

import pytest

from cli.remote.errors import ServerError
from cli.remote.http import Client
from cli.remote.servers import Server
from core.settings import ServiceSettings
from core.websocket import new_key
from pipelines.accounts.roles import ProjectRole
from pipelines.model import HookSettings, Project
from pipelines.service import Service
from tests.toolkit.bounds import Deadline, eventually, stretched
from tests.toolkit.host import command_lines
from tests.toolkit.service import Workforce, finished
from tests.web.processes import WebProcess
from tests.worker.test_worker_pipelines import Repository, log, states

PIPELINE = """
services:
  beside: {image: base, args: [sleep, "600"]}
jobs:
  fill:
    image: base
    caches: [{path: /cache, name: c}]
    run: echo kept > /cache/kept
  whole:
    needs: fill
    image: base
    services: beside
    caches: [{path: /cache, name: c}]
    run: echo half > /cache/half; false
  broken:
    image: base
    env: {COLOUR: blue}
    inputs: ["README", "!secret-file"]
    run:
      - echo made > made && echo changed >> README && echo root > /root-file
      - exit 7
  keyed:
    image: base
    secrets: [KEY, {name: KEY, file: /run/key}]
    run: false
"""
RUNNING = """
jobs:
  slow:
    image: base
    inputs: [README]
    caches: [/cache]
    outputs: [{path: out, name: out}]
    run: mkdir out; echo mine > out/file; echo 1 > /cache/mine; until test -e go; do sleep 0.1; done
"""


class Shell:
    """``shiplap runs shell`` in a terminal of its own."""

    def __init__(self, settings: ServiceSettings, url: str, token: str, *args: str) -> None:
        self.fd, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 97, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli", "runs", "shell", *args],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment(settings, url, token),
        )  # fmt: skip
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def until(self, wanted: str) -> str:
        """All that is shown until this is. Fails the test where the command ends before."""
        found = b""
        deadline = Deadline(60, wanted)
        while wanted.encode() not in found:
            deadline.check()
            if select.select([self.fd], [], [], 0.5)[0]:
                try:
                    found += os.read(self.fd, 4096)
                except OSError:
                    raise AssertionError(f"it ended, and only {found.decode()!r} was shown") from None
        return found.decode(errors="replace")

    def wait(self) -> int:
        return self.process.wait(stretched(60))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


def environment(settings: ServiceSettings, url: str, token: str) -> dict[str, str]:
    return {
        **os.environ, "SHIPLAP_HOST": url, "SHIPLAP_TOKEN": token, "SHIPLAP_ROOT": str(settings.root), "TERM": "vt100"
    }  # fmt: skip


def told(settings: ServiceSettings, url: str, token: str, *args: str, typed: str = "") -> tuple[int, str]:
    """What the command prints without a terminal, and its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "runs", "shell", *args], input=typed, capture_output=True, text=True,
        env=environment(settings, url, token), timeout=stretched(60), check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def repository(service: Service, settings: ServiceSettings) -> Repository:
    made = Repository(service, settings.root / "git" / "app")
    service.projects.put(Project("app", hook=HookSettings(made.url, "plain"), keep_failed=True))
    return made


@pytest.fixture
def web(settings: ServiceSettings) -> Iterator[WebProcess]:
    with WebProcess(settings) as process:
        yield process


def token_of(service: Service, level: ProjectRole) -> str:
    """A robot's, with one right in the project."""
    return service.roles.create_token("app", f"for {level}", level)[1]


def test_shell_in_what_a_failed_job_left_is_as_it_was_and_leaves_nothing(
    service: Service, settings: ServiceSettings, workers: Workforce, repository: Repository, web: WebProcess
) -> None:
    service.secrets.put("KEY", b"a secret key", project="app")
    workers.start("--concurrency", "1")
    files = {".shiplap.yml": PIPELINE, "README": "one\n", "secret-file": "not for it\n"}
    number = repository.push(files)
    finished(service, number)
    assert states(service, number)["broken"] == "failed"
    maintainer, builder = token_of(service, "maintain"), token_of(service, "build")

    shell = Shell(settings, web.url, maintainer, str(number), "broken")
    shell.type("stty size; tty; cat README made /root-file; ls; echo $COLOUR $TERM; pwd\n")
    shown = shell.until("/work\r\n")
    for wanted in ("31 97", "/dev/pts/", "one\r\nchanged\r\nmade\r\nroot\r\n", "blue vt100"):
        assert wanted in shown, shown
    assert "secret-file" not in shown, "it saw no more than its inputs"
    shell.resize(40, 120)
    shell.type("sleep 1; stty size; echo thrown away > made; exit 9\n")
    shell.until("40 120")
    assert shell.wait() == 9
    shell.close()
    code, shown = told(settings, web.url, maintainer, str(number), "broken", "cat", "made")
    assert (code, shown.strip()) == (0, "made"), "what the last one wrote is gone"

    look = "ls /cache; cat /cache/kept .git/HEAD; ls -d .git/lent/0/pack; echo mine > /cache/mine; echo > .git/HEAD"
    for _ in range(2):
        code, shown = told(settings, web.url, maintainer, str(number), "whole", "sh", "-c", look)
        expected = ["kept", "kept", "ref: refs/heads/main", ".git/lent/0/pack"]
        assert (code, shown.splitlines()) == (0, expected), "as the job had them, and what one wrote is gone"
    code, shown = told(settings, web.url, maintainer, str(number), "whole", typed="exit\n")
    for line in (
        f"# What whole of run {number} left. What is done here is thrown away.",
        "# .git: as the job had it when it began",
        f"# cache /cache: as run {number} of protected left it, without what this job wrote",
        "# no services: beside",
    ):
        assert line in shown.splitlines(), shown
    code, shown = told(settings, web.url, maintainer, str(number), "keyed", "sh", "-c", "echo $KEY; cat /run/key")
    assert (code, shown.count("a secret key")) == (0, 2)
    for job in ("broken", "keyed"):
        code, shown = told(settings, web.url, builder, str(number), job, "id")
        assert code != 0
        assert "right to maintain" in shown, "the run is protected"
    kept = service.shells.list(number, service.jobs.get(number, "broken").place)
    assert [(each.kind, each.exit_code) for each in kept] == [("failed", 9), ("failed", 0)]
    entries = [entry for entry in service.audit.list(action="open shell") if "whole" not in entry.subject]
    assert "with its secrets: cat made" in entries[1].detail
    leaves_nothing_when_its_person_goes(service, settings, web, maintainer, number)


def leaves_nothing_when_its_person_goes(
    service: Service, settings: ServiceSettings, web: WebProcess, token: str, number: int
) -> None:
    """A client that is killed, one that sends garbage, and one that never comes."""
    mark = f"7{uuid.uuid4().int % 10**9}"

    def gone() -> bool:
        return not any(line.startswith("sleep") and mark in line for line in command_lines().values())

    killed = Shell(settings, web.url, token, str(number), "broken", "sleep", mark)
    eventually(lambda: not gone(), why="the command runs")
    killed.close()
    eventually(gone, why="it has ended")
    with Client(Server(web.url, token)) as client:
        asked = client.call("POST", f"/runs/{number}/jobs/broken/shells", {"command": ["sleep", mark]})
        place = f"/runs/{number}/shells/{asked['id']}/terminal"
        with pytest.raises(ServerError, match="no request for a WebSocket"):
            client.call("GET", place)
        headers = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": new_key()}
        sock, _, _ = client.upgrade(place, headers)
        with pytest.raises(ServerError, match="has its terminal already"):
            client.upgrade(place, headers)
        eventually(lambda: not gone(), why="the command runs")
        sock.sendall(b"\x81\x05Hello")  # a client masks what it sends
        eventually(gone, why="it has ended")
        sock.close()
    job = service.jobs.get(number, "broken").place
    wanted = ["whoever opened it has gone"] * 2
    eventually(lambda: [each.reason for each in service.shells.list(number, job)[-2:]] == wanted, why="it is noted")


def test_shell_in_a_job_that_runs_leaves_a_result_for_nobody(
    service: Service, settings: ServiceSettings, workers: Workforce, repository: Repository, web: WebProcess
) -> None:
    workers.start("--concurrency", "1")
    maintainer, builder = token_of(service, "maintain"), token_of(service, "build")
    number = repository.push({".shiplap.yml": RUNNING, "README": "one\n"})
    eventually(lambda: states(service, number).get("slow") == "running", why="the job runs")
    _, shown = told(settings, web.url, builder, str(number), "slow")
    assert "right to maintain" in shown
    shell = Shell(settings, web.url, maintainer, str(number), "slow")
    shell.type("cat out/file; echo other > out/file; touch go; sleep 600\n")
    shell.until("mine")
    assert finished(service, number).state == "succeeded"
    shown = shell.until("ended")
    assert shell.wait() == 1
    shell.close()
    assert service.jobs.get(number, "slow").was_entered
    ((output,),) = service.outputs.of_run(number).values()
    assert output.was_entered
    assert not any("kept" in line for line in log(service, number, "slow")), "neither its cache nor its result"
    assert service.pipelines.results(number)["slow"] is None, "a retry does it again"
    again = repository.push({".shiplap.yml": RUNNING})
    eventually(lambda: states(service, again).get("slow") in ("running", "reused"), why="the next run's job comes")
    assert states(service, again)["slow"] == "running", "nor has the next run its result"
    service.runs.cancel(again)
    finished(service, again)
