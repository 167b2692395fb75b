"""Processes to fork from: how they are started and end, and what a fork takes over from who asked."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import forking, zygote
from tests.toolkit.bounds import eventually

_CHECKOUT = Path(zygote.__file__).resolve().parents[1]

_COMMAND = """
import json, os, resource, sys, time, signal
def main(arguments):
    if arguments[0] == "sleep":
        open(arguments[1], "w").write(str(os.getpid()))
        time.sleep(1000)
    if arguments[0] == "cat":
        os.write(int(arguments[2]), os.read(int(arguments[1]), 100))
        return 0
    umask = os.umask(0)
    known = {
        "argv": sys.argv, "environment": dict(os.environ), "cwd": os.getcwd(), "umask": umask,
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE), "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "ignored": signal.getsignal(signal.SIGHUP) == signal.SIG_IGN,
        "fds": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
        "parent": os.getppid(),
    }
    print(json.dumps(known))
    return int(arguments[0])
"""

_CLIENT = """
import sys, os
sys.path.insert(0, sys.argv[1])
from core import forking
forked = forking.ask(sys.argv[2], sys.argv[3:])
sys.exit(os.waitstatus_to_exitcode(forked.wait()) % 256)
"""


@pytest.fixture
def parent(short_path: Path) -> Iterator[Path]:
    """The socket of a parent whose command is _COMMAND. Its code is a copy, so that it can be another's."""
    copy = short_path / "copy"
    (copy / "core").mkdir(parents=True)
    for name in ("__init__", "zygote", "forking", "packets", "errors"):
        (copy / "core" / f"{name}.py").write_text((_CHECKOUT / "core" / f"{name}.py").read_text())
    (copy / "thecommand.py").write_text(_COMMAND)
    start = (
        "import sys; sys.path.insert(0, sys.argv[1]); from core import zygote\n"
        "zygote.start('core.forking', ['thecommand', sys.argv[2], sys.argv[3]], sys.argv[4])"
    )
    arguments = [sys.executable, "-c", start, str(copy), str(short_path / "sock"), "3", str(short_path / "log")]
    subprocess.run(arguments, check=True, cwd=copy)
    yield short_path / "sock"
    shutil.rmtree(copy)  # it is outdated, and ends when it looks
    eventually(lambda: not (short_path / "sock").exists(), why=(short_path / "log").read_text())


def _ask(parent: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _CLIENT, str(_CHECKOUT), str(parent), "name", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_a_fork_is_as_who_asked(parent: Path, tmp_path: Path) -> None:
    def as_wanted() -> None:
        os.umask(0o027)
        os.nice(3)
        resource.setrlimit(resource.RLIMIT_NOFILE, (555, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    done = _ask(parent, "7", cwd=tmp_path, env={"ONLY": "this", "LC_ALL": "C.UTF-8"}, preexec_fn=as_wanted)
    assert (done.returncode, done.stderr) == (7, "")
    known = json.loads(done.stdout)
    assert known["argv"] == ["name", "7"]
    assert known["environment"] == {"ONLY": "this", "LC_ALL": "C.UTF-8"}
    assert known["cwd"] == str(tmp_path)
    assert (known["umask"], known["nofile"][0], known["ignored"]) == (0o027, 555, True)
    assert known["niceness"] == os.getpriority(os.PRIO_PROCESS, 0) + 3
    assert known["fds"] == [0, 1, 2]
    again = json.loads(_ask(parent, "0").stdout)
    assert again["parent"] == known["parent"]
    assert "ONLY" not in again["environment"]


def test_every_inherited_descriptor_comes_under_its_number(parent: Path) -> None:
    read, write = os.pipe()
    back, theirs = os.pipe()
    os.dup2(read, 77)
    os.dup2(theirs, 399)
    os.write(write, b"through 77")
    done = _ask(parent, "cat", "77", "399", pass_fds=(77, 399))
    assert (done.returncode, done.stderr) == (0, "")
    assert os.read(back, 100) == b"through 77"
    for fd in (read, write, back, theirs, 77, 399):
        os.close(fd)


def test_a_client_that_is_killed_takes_its_fork_along(parent: Path, tmp_path: Path) -> None:
    place = tmp_path / "pid"
    command = [sys.executable, "-c", _CLIENT, str(_CHECKOUT), str(parent), "name", "sleep", str(place)]
    client = subprocess.Popen(command)
    eventually(lambda: place.exists() and bool(place.read_text()))
    pid = int(place.read_text())
    client.kill()
    client.wait()
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_a_fork_that_is_killed_is_told_as_it_ended(parent: Path, tmp_path: Path) -> None:
    place = tmp_path / "pid"
    forked = forking.ask(str(parent), ["name", "sleep", str(place)])
    eventually(lambda: place.exists() and bool(place.read_text()))
    signal.pidfd_send_signal(forked.pidfd, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(forked.wait()) == -signal.SIGTERM


def test_nobody_asked_for_a_while_and_it_is_gone(parent: Path) -> None:
    began = time.monotonic()
    eventually(lambda: not parent.exists())
    assert time.monotonic() - began > 1
    with pytest.raises(forking.ForkingError):
        forking.ask(str(parent), ["name", "0"])


def test_what_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(zygote.ZygoteError, match=r"No module named 'core\.no_such_module'"):
        zygote.start("core.no_such_module", [], str(tmp_path / "log"))


def test_a_stamp_sees_what_changed_and_what_has_gone(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("x = 1\n")
    stamp = zygote.Stamp([str(file)])
    assert not stamp.is_outdated()
    file.write_text("x = 12\n")
    assert stamp.is_outdated()
    file.unlink()
    assert stamp.is_outdated()
