"""Containers of another release, on another Python, under this release's commands: with its files there, and deleted.

There is no older release with keepers yet. This one's own code plays it, under another number.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containers.keeper import nursery_client
from core.release import VERSION
from engine.engine import Engine
from engine.places import Places
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.containers import end_containers
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

_CHECKOUT = Path(__file__).resolve().parents[2]
_MINORS = (11, 12, 13)
_NURSERY = (
    "import json, sys; sys.path.insert(0, sys.argv[1]); from containers.keeper import nursery_client\n"
    "nursery_client.nursery(sys.argv[2], sys.argv[3], finish=json.loads(sys.argv[4])).close()"
)
_TOLD = "trap 'echo told; exit 3' TERM; echo begun; while :; do sleep 0.05; done"


def others() -> list[str]:
    """Each supported Python of this machine but the one that runs the tests; where there is none, that one."""
    found = []
    for minor in _MINORS:
        program = shutil.which(f"python3.{minor}")
        if program is None or minor == sys.version_info.minor:
            continue
        tried = subprocess.run([program, "-c", "import socket, json"], capture_output=True, check=False)
        if tried.returncode == 0:
            found.append(program)
    return found or [sys.executable]


class Older:
    """The other release, with a nursery of its own for a root. Its programs are below ``folder``."""

    def __init__(self, folder: Path, python: str, places: Places) -> None:
        self.folder = folder
        for room in ("containers", "core"):
            shutil.copytree(_CHECKOUT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
        release = folder / "core" / "release.py"
        self.version = f"0.0.1-{VERSION}"
        release.write_text(release.read_text().replace(f'"{VERSION}"', f'"{self.version}"'))
        finish = folder / "finish"
        modules = f"{sys.executable} -I -m engine.finishing {places.root} {places.run}"
        finish.write_text(f"#!/bin/sh\nexec {modules}\n")
        finish.chmod(0o755)
        places.make()
        command = [python, "-I", "-S", "-c", _NURSERY, str(folder), str(places.root), str(places.run)]
        subprocess.run([*command, json.dumps([str(finish)])], check=True, timeout=stretched(120))


@pytest.fixture
def here(privileged: None, busybox_tar: Path, tmp_path: Path) -> Iterator[Shiplap]:
    shiplap = Shiplap(tmp_path / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    yield shiplap
    end_containers(shiplap)


def inspected(here: Shiplap, name: str) -> Any:
    return json.loads(here("inspect", name).stdout)[0]


def old(here: Shiplap) -> set[str]:
    return set(here("ps", "--filter", "keeper=old", "--format", "{{.Names}}").stdout.split())


def keeper_of(here: Shiplap, name: str) -> int:
    pid = inspected(here, name)["State"]["Pid"]
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
@pytest.mark.parametrize("python", others(), ids=lambda path: Path(path).name)
def test_this_release_does_with_anothers_containers_what_it_is_asked(
    here: Shiplap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, gone: bool
) -> None:
    places = Places.of(here.root)
    older = Older(tmp_path / "older", python, places)
    for network in ("one", "two"):
        here("network", "create", network)
    started = [
        ("web", "--restart=unless-stopped", "-p127.0.0.1::80", "--health-cmd=true", "--health-interval=1s"),
        ("dying", "--restart=always"),
        ("passing", "--rm"),
    ]
    with monkeypatch.context() as patch, Engine(places) as engine:
        patch.setattr(nursery_client, "VERSION", older.version)  # so this process is of the older release
        for name, *options in started:
            here("create", "--network", "one", "--name", name, *options, BUSYBOX_NAME, "sh", "-c", _TOLD)
            engine.start(name)
    assert old(here) == {"web", "dying", "passing"}
    if gone:
        shutil.rmtree(older.folder)
    assert "3 of another release: passing, dying, web" in here("doctor", check=False).stdout

    eventually(lambda: here("logs", "web").stdout == "begun\n")
    assert here("exec", "-i", "web", "sh", "-c", "cat; exit 3", stdin="typed", check=False).stdout == "typed"
    assert here("exec", "web", "sh", "-c", "exit 3", check=False).returncode == 3
    eventually(lambda: inspected(here, "web")["State"]["Health"]["Status"] == "healthy")
    here("update", "-m", "64m", "--memory-swap", "64m", "--restart", "always", "web")
    assert inspected(here, "web")["HostConfig"]["Memory"] == 64 << 20
    here("pause", "web")
    assert inspected(here, "web")["State"]["Status"] == "paused"
    here("unpause", "web")
    assert "echo told" in here("top", "web").stdout  # the shell: of its short sleeps none may live until ps looks
    assert "web" in here("stats", "--no-stream", "web").stdout
    assert here("port", "web").stdout.startswith("80/tcp -> 127.0.0.1:")
    (tmp_path / "file").write_text("copied")
    here("cp", tmp_path / "file", "web:/file")
    assert here("exec", "web", "cat", "/file").stdout == "copied"
    here("network", "connect", "two", "web")
    assert "eth1" in here("exec", "web", "ip", "-o", "link").stdout
    here("network", "disconnect", "two", "web")
    here("rename", "web", "site")
    assert old(here) == {"site", "dying", "passing"}

    os.kill(keeper_of(here, "dying"), signal.SIGKILL)
    eventually(lambda: inspected(here, "dying")["State"]["Running"])
    here("stop", "-t", "5", "passing")
    eventually(lambda: "passing" not in here("ps", "-a", "--format", "{{.Names}}").stdout)
    here("stop", "site")
    assert inspected(here, "site")["State"]["ExitCode"] == 3
    assert here("logs", "site").stdout == "begun\ntold\n"
    here("start", "site")
    here("restart", "-t", "0", "dying")
    assert old(here) == set()
    assert "another release" not in here("doctor", check=False).stdout
    assert inspected(here, "dying")["State"]["Running"]
    here("exec", "site", "true")
