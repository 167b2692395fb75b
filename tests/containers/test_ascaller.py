"""What a bind of somebody else's leads to is found within a time, whatever file system is on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import ascaller, syscalls
from engine import callers
from engine.callers import Caller
from engine.errors import InvalidRequestError
from tests.toolkit.bounds import Deadline, eventually

_CALLER = {"uid": 1000, "gid": 1000, "groups": [1000]}


@pytest.fixture
def silent(privileged: None, tmp_path: Path) -> Iterator[Path]:
    """A file system of the user 1000 that never answers."""
    place = tmp_path / "silent"
    place.mkdir()
    for path in (place, *place.parents[:4]):
        path.chmod(path.stat().st_mode | 0o055)
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40755,user_id=1000,group_id=1000,allow_other"
    syscalls.mount("silent", str(place), "fuse", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
    try:
        yield place
    finally:
        os.close(fd)
        syscalls.umount2(str(place), syscalls.MNT_DETACH)


def test_a_file_system_that_does_not_answer_holds_nobody_up(silent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ascaller, "_PATIENCE_S", 0.3)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(TimeoutError, match="its file system has not answered"):
            ascaller.opened(str(silent / "x"), "", _CALLER)
    assert len(os.listdir("/proc/self/fd")) == before
    deadline = Deadline(30)
    while ascaller._children and deadline:
        time.sleep(0.01)
        ascaller._reap()
    assert ascaller._children == []


def test_the_engine_does_not_wait_for_it_either_and_keeps_no_dead_children(
    silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "_PATIENCE_S", 0.3)
    caller = Caller(1000, 1000, (1000,))
    for _ in range(3):
        with pytest.raises(InvalidRequestError, match="has not answered"):
            callers.is_there(caller, str(silent / "x"))

    def gone() -> bool:
        assert not callers.is_there(caller, "/nothing-there")
        return not callers._stuck

    eventually(gone)


def test_what_the_caller_may_not_reach_is_refused(privileged: None, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "file").write_text("x")
    with pytest.raises(PermissionError):
        ascaller.opened(str(secret / "file"), "", _CALLER)
    with pytest.raises(FileNotFoundError):
        ascaller.opened("/nothing-there", "", _CALLER)
    fd = ascaller.opened("/usr", "bin/env", _CALLER)
    try:
        assert os.path.samestat(os.fstat(fd), os.stat("/usr/bin/env"))
    finally:
        os.close(fd)
    assert (os.geteuid(), os.getegid()) == (0, 0)
