"""The processes of ``shiplap serve`` end when it does, and with them all that they have started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.commands import serve
from cli.service import supervisor
from core.processes import descendants
from core.settings import ServiceSettings
from pipelines.model import RunRequest
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.service import eventually, upload
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

KEEPER = """
import sys
import cli.service.supervisor
from cli.service.supervisor import Child, Supervisor
cli.service.supervisor._REAP_S = 0.1
with Supervisor() as supervisor:
    supervisor.start(Child("it", sys.argv[1:], 600.0), timeout_s=60)
    print("started", flush=True)
    supervisor.run()
"""
# Ignores SIGTERM, as does what it starts, which has left its session and whose parent is gone.
STUBBORN = """
trap '' TERM
( setsid sh -c 'trap "" TERM; echo up; while :; do sleep 1; done' & )
while :; do sleep 1; done
"""


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def keeping(code: str) -> subprocess.Popen[bytes]:
    """A supervisor of one child, a shell that runs ``code``."""
    return subprocess.Popen([sys.executable, "-c", KEEPER, "sh", "-c", code], stdout=subprocess.PIPE)


_SIGNALLED = """
import os, signal
from cli.service.supervisor import Supervisor
with Supervisor() as supervisor:
    before = supervisor.ending
    os.kill(os.getpid(), signal.SIGTERM)
    print(before, supervisor.ending, supervisor.received)
"""


def test_signal_that_comes_while_it_starts_is_known() -> None:
    ended = subprocess.run([sys.executable, "-c", _SIGNALLED], stdout=subprocess.PIPE, text=True, check=True)
    assert ended.stdout == "False True 15\n"


def test_a_second_signal_ends_what_does_not_end_by_itself_and_all_it_has_started() -> None:
    with keeping(STUBBORN) as keeper, contextlib.ExitStack() as stack:
        stack.callback(keeper.kill)  # else whoever fails waits for it
        assert keeper.stdout is not None
        assert sorted(keeper.stdout.readline() for _ in range(2)) == [b"started\n", b"up\n"]
        eventually(
            lambda: len(descendants(keeper.pid)) >= 3
        )  # also the one without a parent of its own: it was adopted
        below = descendants(keeper.pid)
        keeper.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert keeper.poll() is None  # one signal lets it finish what it is at
        keeper.send_signal(signal.SIGTERM)
        assert keeper.wait(stretched(60)) == 0
    assert [process for process in below if is_alive(process)] == []


def test_orphans_that_end_are_taken_note_of() -> None:
    with keeping("( setsid sh -c 'exit 0' & ); exec sleep 600") as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"started\n"
        try:
            eventually(lambda: len(descendants(keeper.pid)) == 1, why="only the child is left")
        finally:
            keeper.send_signal(signal.SIGTERM)


def test_all_that_hurried_processes_are_given_is_less_than_twenty_seconds() -> None:
    others = 3 * supervisor.Child("x", (), 0).hurry_s  # the engine's API, the web process and Redis
    assert serve._HURRY_S + others + supervisor._KILLED_S + supervisor._KILL_S < 20


def test_a_killed_process_that_the_kernel_holds_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_KILLED_S", 0.1)
    held = Held()
    supervisor.Supervisor()._stop(supervisor.Child("the worker", (), 0.0, process=held))
    assert held.got[0] == "SIGTERM"
    assert held.got[-1] == "SIGKILL"


class Held:
    """A process in a system call that does not end."""

    pid = 0

    def __init__(self) -> None:
        self.got: list[str] = []

    def poll(self) -> int | None:
        return None

    def wait(self, timeout: float | None = None) -> int:
        raise subprocess.TimeoutExpired("held", timeout or 0)

    def terminate(self) -> None:
        self.got.append("SIGTERM")

    def kill(self) -> None:
        self.got.append("SIGKILL")


@pytest.mark.parametrize("stuck", [False, True], ids=["working", "stuck"])
def test_serve_ends_on_a_second_signal_and_leaves_no_process(
    privileged: None, shiplap: Shiplap, tmp_path: Path, busybox_tar: Path, stuck: bool
) -> None:
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    with (
        (tmp_path / "serve.log").open("w") as log,
        shiplap.start("serve", "--listen", "127.0.0.1:0", stdout=subprocess.PIPE, stderr=log) as serving,
    ):
        try:
            assert serving.stdout is not None
            serving.stdout.readline()
            with Service.open(ServiceSettings.from_environ(root=str(shiplap.root))) as service:
                source = upload(service.contexts, {"Dockerfile": f"FROM {BUSYBOX_NAME}\nRUN sleep 12345\n"})
                run = service.runs.submit(RunRequest(source))
                eventually(lambda: "sleep 12345" in _commands(serving.pid), timeout_s=120, why="the step runs")
                below = descendants(serving.pid)
                if stuck:  # nothing of the worker takes note of a signal
                    for process in below:
                        if "-m worker" in _command(process):
                            os.kill(process, signal.SIGSTOP)
                serving.send_signal(signal.SIGTERM)
                time.sleep(1)
                assert serving.poll() is None  # the run may finish
                serving.send_signal(signal.SIGTERM)
                assert serving.wait(stretched(120)) == 0
                assert [_command(process) for process in below if is_alive(process)] == []
                assert service.runs.get(run.number).state == ("running" if stuck else "queued")
        finally:
            serving.kill()


def _commands(ancestor: int) -> str:
    return "\n".join(map(_command, descendants(ancestor)))


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""
