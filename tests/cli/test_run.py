"""``shiplap run``, as a user runs it: bytes, exit codes, signals and terminal of a container in the foreground."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.toolkit.bounds import stretched
from tests.toolkit.host import command_lines
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

_CHECKOUT = Path(__file__).resolve().parents[2]


def test_output_errors_and_exit_code_are_the_commands(base_store: Shiplap) -> None:
    result = base_store("run", "--rm", BUSYBOX_NAME, "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_standard_input_is_passed_only_when_asked(base_store: Shiplap) -> None:
    assert base_store("run", "-i", BUSYBOX_NAME, "cat", stdin="some\ntext").stdout == "some\ntext"
    assert base_store("run", BUSYBOX_NAME, "cat", stdin="some\ntext").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nothing-here", "true"), 125, "error: no such image: nothing-here"),
        ((BUSYBOX_NAME, "/etc/passwd-not"), 127, "error: "),
        ((BUSYBOX_NAME, "/etc"), 126, "error: "),
        (("-w", "relative", BUSYBOX_NAME, "true"), 125, "not an absolute path"),
        (("--env-file", "/nonexistent", BUSYBOX_NAME, "true"), 125, "/nonexistent"),
        (("-i", "-t", BUSYBOX_NAME, "true"), 125, "needs a terminal"),
    ],
)
def test_failures_have_dockers_exit_codes(
    base_store: Shiplap, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = base_store("run", *arguments, check=False)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_options_reach_the_container(base_store: Shiplap, tmp_path: Path) -> None:
    (tmp_path / "vars").write_text("FROM_FILE=f\nOVERRIDDEN=file\n")
    script = "echo $FROM_FILE $OVERRIDDEN $OURS $HOSTNAME; pwd; id -u; hostname; grep db /etc/hosts"
    result = base_store(
        *("run", "--env-file", tmp_path / "vars", "-e", "OVERRIDDEN=option", "-e", "OURS"),
        *("-w", "/new/dir", "-u", "1234", "-h", "box", "--add-host", "db:10.1.2.3", "--network", "none"),
        *("--entrypoint", "sh", BUSYBOX_NAME, "-c", script),
        env={"OURS": "ours"},
    )
    lines = result.stdout.splitlines()
    assert lines[:4] == ["f option ours box", "/new/dir", "1234", "box"]
    assert lines[4].split() == ["10.1.2.3", "db"]


def test_what_it_writes_is_gone_afterwards(base_store: Shiplap) -> None:
    base_store("run", BUSYBOX_NAME, "sh", "-c", "echo x > /file && rm /bin/sh")
    result = base_store("run", BUSYBOX_NAME, "sh", "-c", "ls /file", check=False)
    assert result.returncode == 1


def test_terminated_container_ends_with_its_own_exit_code(base_store: Shiplap) -> None:
    script = "trap 'exit 7' TERM; echo ready; while true; do sleep 0.1; done"
    process = base_store.start("run", BUSYBOX_NAME, "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(stretched(30)) == 7
    process.stdout.close()


def test_second_interrupt_kills_what_ignores_the_first(base_store: Shiplap) -> None:
    process = base_store.start(
        "run", BUSYBOX_NAME, "sh", "-c", "trap '' INT; echo ready; sleep 100", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(stretched(30)) == 137
    process.stdout.close()


class Typist:
    """Someone at a terminal of 31 x 91 in which ``shiplap run -it`` runs."""

    def __init__(self, shiplap: Shiplap, *arguments: str) -> None:
        self._user, program = pty.openpty()
        fcntl.ioctl(self._user, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 91, 0, 0))
        self.program = program
        self.before = termios.tcgetattr(program)
        self.process = shiplap.start(*arguments, stdin=program, stdout=program, stderr=program)

    def type(self, text: str) -> None:
        os.write(self._user, text.encode())

    def read(self, until: str) -> str:
        found = b""
        deadline = time.monotonic() + stretched(30)
        while until.encode() not in found:
            assert select.select([self._user], [], [], max(0, deadline - time.monotonic()))[0], f"only {found!r} came"
            found += os.read(self._user, 4096)
        return found.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._user)
        os.close(self.program)


def test_command_on_a_terminal(base_store: Shiplap) -> None:
    sleep = "sh -c 'echo asleep; exec /bin/sleep 100'"
    script = f"trap : INT; stty size; tty; read line; echo got $line; {sleep}; echo ended by $?; exit 9"
    typist = Typist(base_store, "run", "-it", BUSYBOX_NAME, "sh", "-c", script)
    try:
        assert "31 91\r\n/dev/pts/0\r\n" in typist.read("/dev/pts/0\r\n")
        typist.type("it\r")
        typist.read("got it\r\nasleep\r\n")
        typist.type("\x03")  # Ctrl-C is the container's: it ends the sleep, not the shell, and not us
        typist.read("ended by 130\r\n")
        assert typist.process.wait(stretched(30)) == 9
        assert termios.tcgetattr(typist.program) == typist.before
    finally:
        typist.close()


def test_killing_the_command_leaves_no_container(base_store: Shiplap) -> None:
    marker = f"sleep 4{os.getpid()}"
    process = base_store.start("run", BUSYBOX_NAME, *marker.split())
    try:
        _until(lambda: _running(marker))
        process.kill()
        process.wait()
        _until(lambda: not _running(marker))
    finally:
        process.kill()
        process.wait()


def _running(command: str) -> bool:
    return command in command_lines().values()


def _until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + stretched(30)
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def test_help_needs_no_root_directory(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "cli", "run", "--help"], capture_output=True, text=True, cwd=_CHECKOUT, check=True
    )
    assert "--entrypoint" in result.stdout
