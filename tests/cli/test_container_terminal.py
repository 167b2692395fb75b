"""Attached to containers as people are: terminals, their sizes, detach keys, signals, and a command that is killed."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.containers import end_containers
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap
from tests.toolkit.terminals import read_until

pytestmark = pytest.mark.usefixtures("privileged")


@pytest.fixture(scope="module")
def here(busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shiplap]:
    """The command on a root of its own, whose containers are removed at the end."""
    shiplap = Shiplap(tmp_path_factory.mktemp("terminal") / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    yield shiplap
    end_containers(shiplap)


class Terminal:
    """A command on a terminal that the test holds."""

    def __init__(self, shiplap: Shiplap, *line: str, rows: int = 33, columns: int = 101) -> None:
        self.fd, slave = pty.openpty()
        self.resize(rows, columns)
        self._process = shiplap.start(*line, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def winch(self) -> None:
        """The signal that the kernel sends to the terminal's own session, which this one's is not."""
        self._process.send_signal(signal.SIGWINCH)

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def until(self, wanted: bytes) -> bytes:
        return read_until(self.fd, wanted)

    def code(self) -> int:
        """The command's exit code."""
        code = self._process.wait(stretched(60))
        os.close(self.fd)
        return code


def test_a_terminal_has_our_size_also_when_it_changes(here: Shiplap) -> None:
    terminal = Terminal(here, "run", "-it", "--rm", "--name", "sized", BUSYBOX_NAME, "sh")
    terminal.until(b"# ")
    terminal.type(b"stty size\n")
    terminal.until(b"33 101")
    terminal.resize(44, 120)
    terminal.winch()
    terminal.type(b"while [ \"$(stty size)\" != '44 120' ]; do sleep 0.1; done; echo grown$((1+1))\n")
    terminal.until(b"grown2")
    terminal.type(b"exit 5\n")
    assert terminal.code() == 5
    assert here("ps", "-aq", "--filter", "name=sized").stdout == ""


def test_detach_keys_leave_the_container_running(here: Shiplap) -> None:
    terminal = Terminal(here, "run", "-it", "--name", "left", BUSYBOX_NAME, "sh")
    terminal.until(b"# ")
    terminal.type(b"\x10\x11")
    assert terminal.code() == 0
    again = Terminal(here, "attach", "--detach-keys", "ctrl-a,x", "left")
    again.type(b"echo still$((1+1))\n")
    again.until(b"still2")
    again.type(b"\x01x")
    assert again.code() == 0
    beside = Terminal(here, "exec", "-it", "left", "sh")
    beside.until(b"# ")
    beside.type(b"tty; exit 6\n")
    beside.until(b"/dev/pts/")
    assert beside.code() == 6
    last = Terminal(here, "attach", "left")
    last.type(b"exit 9\n")
    assert last.code() == 9
    assert here("wait", "left").stdout == "9\n"


def test_a_container_outlives_the_command_that_was_attached(here: Shiplap) -> None:
    attached = here.start(
        *("run", "--name", "orphan", BUSYBOX_NAME, "sh", "-c", "echo up; while :; do sleep 0.1; done"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert attached.stdout is not None
    assert attached.stdout.readline() == b"up\n"
    attached.kill()
    attached.wait(stretched(60))
    attached.stdout.close()
    assert here("ps", "--filter", "name=orphan", "--format", "{{.State}}").stdout == "running\n"
    here("rm", "-f", "orphan")


def test_signals_are_passed_on_and_the_second_kills(here: Shiplap) -> None:
    script = "trap 'echo got it' INT; echo up; while :; do sleep 0.1; done"
    attached = here.start(
        *("run", "--name", "signalled", BUSYBOX_NAME, "sh", "-c", script),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert attached.stdout is not None
    assert attached.stdout.readline() == b"up\n"
    attached.send_signal(signal.SIGINT)
    assert attached.stdout.readline() == b"got it\n"
    attached.send_signal(signal.SIGINT)
    assert attached.wait(stretched(60)) == 137
    attached.stdout.close()
    here("rm", "signalled")


def test_input_that_ends_ends_the_containers(here: Shiplap) -> None:
    assert here("run", "-i", "--rm", "--name", "counted", BUSYBOX_NAME, "wc", "-c", stdin=b"x" * 300_000).stdout == (
        "300000\n"
    )
    here("run", "-d", "--name", "held", BUSYBOX_NAME, "sleep", "1000")
    assert here("exec", "-i", "held", "wc", "-c", stdin=b"y" * 100_000).stdout == "100000\n"


def test_a_container_of_rm_is_gone_when_the_command_ends(here: Shiplap) -> None:
    for code in ("0", "3"):
        here("run", "--rm", "--name", "gone", BUSYBOX_NAME, "sh", "-c", f"exit {code}", check=False)
        assert here("ps", "-aq", "--filter", "name=gone").stdout == ""
    here("run", "-d", "--rm", "--name", "gone", BUSYBOX_NAME, "true")
    eventually(lambda: here("ps", "-aq", "--filter", "name=gone").stdout == "")
