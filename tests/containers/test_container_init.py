"""A container whose first process is ours: it reaps, passes signals on to all, and ends with the command."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from containers.resources import Limits
from containers.spec import ExitStatus
from tests.containers.running import Runner, eventually
from tests.toolkit.bounds import stretched

pytestmark = pytest.mark.usefixtures("privileged")


def test_status_is_the_commands(run: Runner) -> None:
    assert run.status("sh", "-c", "exit 7", init=True)[0] == ExitStatus(7)
    assert run.status("sh", "-c", "kill -USR1 $$", init=True)[0] == ExitStatus(138, 10)
    assert run.status("true", init=True)[0] == ExitStatus(0)
    status, _ = run.status("no-such-command", init=True)
    assert (status.code, status.message) == (127, 'exec: "no-such-command": executable file not found in $PATH')


def test_command_is_the_child_of_an_init_that_tells_nothing(run: Runner) -> None:
    said = run(
        """
        echo pid $$, parent $PPID
        echo "name $(cat /proc/1/comm) $(tr -d '\\0' </proc/1/cmdline)"
        for what in environ mem exe maps fd; do
            cat /proc/1/$what >/dev/null 2>&1 && echo "shows $what"
            ls /proc/1/$what/ >/dev/null 2>&1 && echo "lists $what"
        done
        kill -KILL 1; kill -TERM 1; kill -STOP 1; sleep 0.1; echo alive
        """,
        init=True,
    )
    assert said.splitlines() == ["pid 2, parent 1", "name init init", "alive"]


def test_orphans_are_reaped(run: Runner) -> None:
    script = """
        for i in 1 2 3 4 5; do (sleep 0.01 & ) ; done
        sleep 0.3
        grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l
    """
    assert run(script, init=True).strip() == "0"


def test_what_the_command_left_running_ends_with_it(run: Runner) -> None:
    began = time.monotonic()
    run("(trap '' TERM HUP; setsid sleep 1000 >/dev/null 2>&1 &) ; true", init=True)
    assert time.monotonic() - began < stretched(100)


def test_signal_reaches_all_and_the_container_waits_for_them(run: Runner, tmp_path: Path) -> None:
    """The shell is gone at once; what it called puts things in order, and has the time for it."""
    said = tmp_path / "said"
    script = """
        sh -c 'trap "sleep 0.3; echo tidied; exit" TERM; echo ready; while :; do sleep 0.05; done' &
        setsid sh -c 'trap "echo daemon too; exit" TERM; echo ready; while :; do sleep 0.05; done' &
        echo ready; sleep 1000
    """
    with open(said, "wb") as output, run.start("sh", "-c", script, stdout=output.fileno(), init=True) as container:
        assert eventually(lambda: said.read_text().count("ready") == 3)
        container.signal(signal.SIGTERM)
        status = container.wait(stretched(60))
    assert (status.code, status.signal) == (143, 15)
    assert sorted(said.read_text().split("\n")[3:5]) == ["daemon too", "tidied"]


def test_who_ignores_it_ends_by_the_kill(run: Runner, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with (
        open(said, "wb") as output,
        run.start(
            "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done", stdout=output.fileno(), init=True
        ) as container,
    ):
        assert eventually(lambda: "ready" in said.read_text())
        container.signal(signal.SIGTERM)
        with pytest.raises(TimeoutError):
            container.wait(0.3)
        container.kill()
        assert container.wait(stretched(60)) == ExitStatus(137, 9)


def test_other_signals_do_not_keep_the_container_open(run: Runner, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with open(said, "wb") as output:
        script = "trap 'echo usr1; exit 3' USR1; (trap '' USR1; sleep 1000) & echo ready; while :; do sleep 0.05; done"
        with run.start("sh", "-c", script, stdout=output.fileno(), init=True) as container:
            assert eventually(lambda: "ready" in said.read_text())
            container.signal(signal.SIGUSR1)
            assert container.wait(stretched(60)) == ExitStatus(3)


def test_limit_of_processes_is_the_commands_own(run: Runner) -> None:
    """One process of ours does not count: a command that may have one process can be executed."""
    limits = Limits(pids=1, optional=("pids",))
    assert run.status("true", init=True, limits=limits)[0] == ExitStatus(0)
    status, said = run.status("sh", "-c", "sleep 0 & wait", init=True, limits=limits)
    assert status.code != 0
    assert "pids" in status.exceeded
    assert "fork" in said


def test_user_and_working_directory_are_the_commands(run: Runner) -> None:
    said = run("id -u; pwd; grep Cap.*Eff /proc/self/status", user="app", cwd="/tmp", init=True)
    assert said.split() == ["1000", "/tmp", "CapEff:", "0000000000000000"]


def test_no_descriptor_stays_with_init(run: Runner, tmp_path: Path) -> None:
    """A pipe of the command's closes when the command closes it."""
    read, write = os.pipe()
    try:
        container = run.start("sh", "-c", "echo said; exec >&-; sleep 1000", stdout=write, init=True)
        os.close(write)
        write = -1
        with open(read, "rb", closefd=False) as file:
            assert file.read() == b"said\n"
        assert not container.ended()
        container.kill()
        container.wait(stretched(60))
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)


def test_terminal_may_be_for_output_alone(run: Runner) -> None:
    """What is read is what ``start`` was given; the terminal is the controlling one all the same."""
    spec = run.spec("sh", "-c", "cat; echo to >/dev/tty; [ -t 0 ] || echo apart", init=True)
    read, write = os.pipe()
    os.write(write, b"given\n")
    os.close(write)
    with open(os.devnull, "r+b") as null:
        started = run.launcher.start(
            spec._replace(terminal=True, terminal_input=False), stdin=read, stdout=null.fileno(), stderr=null.fileno()
        )
    os.close(read)
    said = b""
    with started as container:
        assert container.terminal is not None
        with contextlib.suppress(OSError):  # nobody has the other end any more
            while data := os.read(container.terminal, 4096):
                said += data
        assert container.wait(stretched(60)) == ExitStatus(0)
    assert said.split() == [b"given", b"to", b"apart"]
