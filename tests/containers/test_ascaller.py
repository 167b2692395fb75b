"""What a bind of somebody else's leads to is found within a time, whatever file system is on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import ascaller, syscalls
from engine import callers
from engine.callers import Caller
from engine.errors import InvalidRequestError
from tests.toolkit.bounds import eventually, stretched

_LOOKING = """
import os, sys, time
from containers import ascaller
CALLER = {"uid": 1000, "gid": 1000, "groups": [1000]}
def tried(source, subpath=""):
    try:
        return ascaller.opened(source, subpath, CALLER)
    except OSError as error:
        print(type(error).__name__, error.strerror)
"""
_AT_WHAT_IS_SILENT = """
ascaller._PATIENCE_S = 0.3
before = os.listdir("/proc/self/fd")
for _ in range(3):
    tried(sys.argv[1] + "/x")
print(len(os.listdir("/proc/self/fd")) - len(before), "descriptors more")
while ascaller._children:
    time.sleep(0.01)
    ascaller._reap()
print("all have ended")
"""
_AT_WHAT_IS_SECRET = """
tried(sys.argv[1])
tried("/nothing-there")
fd = tried("/usr", "bin/env")
print(os.path.samestat(os.fstat(fd), os.stat("/usr/bin/env")), os.geteuid(), os.getegid())
"""


def looking(what: str, argument: Path) -> list[str]:
    """What is said by a process that looks as a keeper does: with one thread, which that of the tests need not have."""
    command = [sys.executable, "-P", "-c", _LOOKING + what, str(argument)]
    environment = {**os.environ, "PYTHONPATH": str(Path(ascaller.__file__).parents[1])}
    limit = stretched(60)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture
def silent(privileged: None, short_path: Path) -> Iterator[Path]:
    """A file system of the user 1000 that never answers: not below pytest's folder, which each pytest shuts."""
    place = short_path / "silent"
    place.mkdir()
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40755,user_id=1000,group_id=1000,allow_other"
    syscalls.mount("silent", str(place), "fuse", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
    try:
        yield place
    finally:
        os.close(fd)
        syscalls.umount2(str(place), syscalls.MNT_DETACH)


def test_a_file_system_that_does_not_answer_holds_nobody_up(silent: Path) -> None:
    said = looking(_AT_WHAT_IS_SILENT, silent)
    assert said == ["TimeoutError its file system has not answered for 0 s"] * 3 + [
        "0 descriptors more",
        "all have ended",
    ]


def test_the_engine_does_not_wait_for_it_either_and_keeps_no_dead_children(
    silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_PATIENCE_S", 0.3)
    caller = Caller(1000, 1000, (1000,))
    for _ in range(3):
        with pytest.raises(InvalidRequestError, match="has not answered"):
            callers.is_there(caller, str(silent / "x"))

    monkeypatch.setattr(callers, "_PATIENCE_S", stretched(10))

    def gone() -> bool:
        assert not callers.is_there(caller, "/nothing-there")
        return not callers._stuck

    eventually(gone)


def test_what_the_caller_may_not_reach_is_refused(privileged: None, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "file").write_text("x")
    assert looking(_AT_WHAT_IS_SECRET, secret / "file") == [
        "PermissionError Permission denied",
        "FileNotFoundError No such file or directory",
        "True 0 0",
    ]
