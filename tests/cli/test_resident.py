"""The resident as users see it: it comes behind a command, later ones go through it, and say the same as without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from cli import resident
from tests.toolkit.bounds import eventually, stretched

_SHIPLAP: Final = Path(sys.executable).with_name("shiplap")
_FAULTS_OF_CHILDREN: Final = 8  # cminflt in /proc/PID/stat, after the name: grows when a child is reaped


class Host:
    """Namespaces in which /run/shiplap is our own: there may be four residents on a host, and other tests on this one.

    root: SHIPLAP_ROOT of its commands.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        private = "mkdir -p /run/shiplap && mount -t tmpfs -o mode=755 tmpfs /run/shiplap && echo ready && exec cat"
        words = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", private)
        self._inside = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._inside.stdout is not None
        assert self._inside.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{self._inside.pid}/task/{self._inside.pid}/children")
        self._pid = int(children.read_text())

    def close(self) -> None:
        self._inside.kill()
        self._inside.communicate()

    def run(self, *words: str | Path, switch: str = "on") -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{_SHIPLAP.parent}:{os.environ['PATH']}",
            "HOME": str(self.root.parent),
            "LANG": "C.UTF-8",
            "SHIPLAP_ROOT": str(self.root),
            "SHIPLAP_RESIDENT": switch,
        }
        enter = ("nsenter", f"--target={self._pid}", "--mount", "--pid")
        command = [*enter, *map(str, words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=stretched(120))

    def shiplap(self, *words: str | Path, switch: str = "on") -> subprocess.CompletedProcess[str]:
        return self.run(_SHIPLAP, *words, switch=switch)

    def resident(self) -> Path | None:
        """Its directory in /proc."""
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes()
                is_inside = os.readlink(place / "ns/pid") == os.readlink(f"/proc/{self._pid}/ns/pid")
            except OSError:
                continue
            if is_inside and b"cli.residing" in words:
                return place
        return None

    def served(self) -> int:
        """Grows with each command that the resident has run."""
        place = self.resident()
        assert place is not None
        return int((place / "stat").read_text().rpartition(")")[2].split()[_FAULTS_OF_CHILDREN])

    def is_listening(self) -> bool:
        return bool(self.run("sh", "-c", "ls /run/shiplap/resident | grep -x '[0-9a-f]\\{24\\}'").stdout)


@pytest.fixture(scope="module")
def host(privileged: None, tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Iterator[Host]:
    """With a resident, that came behind ``image import``."""
    made = Host(tmp_path_factory.mktemp("resident") / "root")
    try:
        script = f'x=$({_SHIPLAP} image import {busybox_tar} busybox) && echo "$x"'
        assert made.run("sh", "-c", script).stdout.startswith("sha256:")  # it does not wait for what it started
        eventually(made.is_listening)
        yield made
        made.shiplap("rm", "-f", "kept", switch="off")
    finally:
        made.close()


def test_commands_say_the_same_with_and_without_it(host: Host) -> None:
    for words in (
        ("image", "ls", "--format", "{{.ID}} {{.Repository}}"),
        ("images", "-q"),
        ("inspect", "busybox"),
        ("image", "inspect", "busybox"),
        ("inspect", "no-such-thing"),
        ("image", "ls", "--no-such-option"),
        ("tag", "busybox", "again"),
        ("rmi", "again"),
        ("ps", "-a"),
    ):
        alone = host.shiplap(*words, switch="off")
        if words[0] == "rmi":
            host.shiplap("tag", "busybox", "again", switch="off")
        before = host.served()
        through = host.shiplap(*words)
        assert (through.returncode, through.stdout, through.stderr) == (
            alone.returncode, alone.stdout, alone.stderr,
        ), words  # fmt: skip
        eventually(lambda before=before: host.served() > before, why=str(words))  # type: ignore[misc]


def test_descriptors_of_the_shell_reach_the_command(host: Host, tmp_path: Path) -> None:
    before = host.served()
    script = (
        f"{_SHIPLAP} save busybox >{tmp_path}/tar && {_SHIPLAP} load -i <(cat {tmp_path}/tar) && "
        f"{_SHIPLAP} load <{tmp_path}/tar && {_SHIPLAP} image ls 9>{tmp_path}/lock | grep -c busybox"
    )
    done = host.run("bash", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n1\n")
    eventually(lambda: host.served() > before)


def test_containers_start_and_are_entered_through_it(host: Host) -> None:
    before = host.served()
    started = host.shiplap("run", "-d", "--name", "kept", "busybox", "sleep", "1000")
    assert started.returncode == 0, started.stderr
    entered = host.shiplap("exec", "-e", "NAME=value", "kept", "sh", "-c", "echo $NAME; exit 42")
    assert (entered.returncode, entered.stdout, entered.stderr) == (42, "value\n", "")
    once = host.shiplap("run", "--rm", "busybox", "sh", "-c", "echo once; exit 3")
    assert (once.returncode, once.stdout) == (3, "once\n"), once.stderr
    eventually(lambda: host.served() > before)


def test_a_build_through_it_is_a_build(host: Host, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo built >/made\n")
    before = host.served()
    for progress in ("RUN echo built", "CACHED"):
        done = host.shiplap("build", "--progress", "plain", "-t", "made", tmp_path)
        assert done.returncode == 0, done.stderr
        assert progress in done.stderr + done.stdout
    eventually(lambda: host.served() > before)


@pytest.mark.parametrize(
    "line",
    [
        "", "--help", "serve", "web", "worker", "engine", "login", "image prune", "system prune", "container prune",
        "attach web", "ci run", "run -it busybox", "run -d -ti busybox", "run --name x -i busybox", "exec -t web sh",
        "exec --interactive web sh", "run --tty busybox", "start -ai web", "container run -it busybox",
        "build --debug .", "--host local image ls", "secret set x", "user add x", "stats", "cp - web:/x", "image",
    ],
)  # fmt: skip
def test_what_serves_or_may_ask_at_a_terminal_runs_by_itself(line: str) -> None:
    assert resident._root_of(line.split()) is None


@pytest.mark.parametrize(
    ("line", "root"),
    [
        ("image ls", ""), ("run -d busybox sleep 1000", ""), ("exec web true", ""), ("container ls -a", ""),
        ("--root /r ps", "/r"), ("--root=/r ps", "--root=/r"), ("build -t app .", ""), ("rm -f web", ""),
    ],
)  # fmt: skip
def test_what_it_runs(line: str, root: str) -> None:
    assert resident._root_of(line.split()) == root


def test_nobody_asks_unless_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "off", "1"):
        monkeypatch.setenv("SHIPLAP_RESIDENT", value)
        assert resident.resident_for(["image", "ls"]) is None
