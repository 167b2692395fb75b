"""Control groups of version 2 that a service was given to divide: found by their mark, and emptied of processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from containers import cgroups, delegation
from containers.hierarchies import Hierarchy, hierarchies
from core.mountinfo import mounts
from tests.toolkit.bounds import eventually, stretched


def group(folder: Path, *, mark: bytes = b"", controllers: str = "cpu io memory pids") -> Path:
    """What the kernel shows of a group, as far as it is looked at."""
    folder.mkdir(parents=True)
    (folder / "cgroup.controllers").write_text(f"{controllers}\n")
    if mark:
        os.setxattr(folder, "user.delegate", mark)
    return folder


def found(top: Path, own: str, root: str = "/") -> Hierarchy:
    line = f"40 31 0:37 {root} {top} rw,relatime - cgroup2 cgroup2 rw\n"
    (hierarchy,) = hierarchies(line, f"1:name=x:/elsewhere\n0::{own}\n", "all-x")
    return hierarchy


def test_groups_of_containers_are_below_the_group_that_was_delegated(tmp_path: Path) -> None:
    group(tmp_path / "top")
    unit = group(tmp_path / "top/system.slice/shiplap.service", mark=b"1", controllers="memory pids")
    group(unit / "service")
    for own in ("", "/service", "/service/deeper"):
        hierarchy = found(tmp_path / "top", f"/system.slice/shiplap.service{own}")
        assert hierarchy.is_delegated
        assert hierarchy.parent == f"{unit}/shiplap/all-x"
        assert hierarchy.controllers == ("memory", "pids")


def test_nearest_delegated_group_counts(tmp_path: Path) -> None:
    group(tmp_path / "top")
    user = group(tmp_path / "top/user@1000.service", mark=b"1")
    group(user / "app.slice")
    scope = group(user / "app.slice/run-1.scope", mark=b"1")
    group(user / "app.slice/terminal.scope")
    assert found(tmp_path / "top", "/user@1000.service/app.slice/run-1.scope").path == str(scope)
    assert found(tmp_path / "top", "/user@1000.service/app.slice/terminal.scope").path == str(user)


def opened_below(folder: Path) -> list[str]:
    """What this process has open there, once for each descriptor."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the list itself
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [link for link in links if link.startswith(f"{folder}/")]


def test_session_begins_again_where_a_reclaiming_process_comes_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may remove the new directory before the session has the lock, or hold the lock at that moment."""
    lock, tries = cgroups._lock, 0

    def disturbed(path: str) -> int | None:
        nonlocal tries
        tries += 1
        if tries == 2:
            return None
        taken = lock(path)
        if tries == 1:
            os.rmdir(path)
        return taken

    monkeypatch.setattr(cgroups, "_lock", disturbed)
    session = cgroups.Session("name", [Hierarchy(str(tmp_path), 1, ())])
    (hierarchy,) = session.hierarchies
    assert opened_below(tmp_path) == [f"{hierarchy.parent}/name"]
    session.close()
    assert opened_below(tmp_path) == []
    assert not (tmp_path / "shiplap").exists()


@pytest.mark.parametrize(
    ("own", "root"),
    [
        ("/plain.scope", "/"),
        ("/refused.service", "/"),
        ("/bare.service", "/"),
        ("/gone.scope", "/"),
        ("/", "/"),
        ("/../marked.service", "/"),
        ("/marked.service", "/docker/abc"),
    ],
)
def test_elsewhere_they_are_at_the_top(tmp_path: Path, own: str, root: str) -> None:
    top = group(tmp_path / "top", mark=b"1")  # of a container, say: its own processes are there
    group(top / "plain.scope")
    group(top / "refused.service", mark=b"0")
    group(top / "bare.service", mark=b"1", controllers="")
    group(tmp_path / "marked.service", mark=b"1")
    hierarchy = found(top, own, root)
    assert not hierarchy.is_delegated
    assert hierarchy.path == str(top)


def test_host_without_control_groups_has_none() -> None:
    assert hierarchies("31 1 8:1 / / rw - ext4 /dev/vda rw\n", "") == []


def test_session_offers_only_the_controllers_that_were_passed_on(tmp_path: Path) -> None:
    """The kernel passes none on from a group that has processes, as a container's top one."""
    top = group(tmp_path / "top")
    session = cgroups.Session("s", [Hierarchy(str(top), 2, ("cpu", "memory", "pids"))])
    assert [hierarchy.controllers for hierarchy in session.hierarchies] == [()]
    assert not session.bound(64 << 20, None)
    session.close()
    assert not (top / "shiplap").exists()


@pytest.fixture
def real_group(privileged: None) -> Iterator[Path]:
    """A group of this host's version 2 hierarchy, wherever that is."""
    tops = [mount.place for mount in mounts(Path("/proc/self/mountinfo").read_text()) if mount.kind == "cgroup2"]
    folder = Path(tops[0], f"shiplap-test-{os.getpid()}")
    folder.mkdir()
    try:
        yield folder
    finally:
        eventually(lambda: removed(folder), why="the group is empty")


def removed(folder: Path) -> bool:
    for path in (folder / delegation.LEAF, folder):
        with suppress(OSError):
            path.rmdir()
    return not folder.exists()


def test_processes_of_a_delegated_group_make_room(real_group: Path) -> None:
    """A loop of shells that fork while they are moved: none may stay."""
    forks = "echo $$ >$1/cgroup.procs; while :; do /bin/true; (/bin/true; /bin/true); done"
    procs = real_group / "cgroup.procs"
    process = subprocess.Popen(["sh", "-c", forks, "sh", str(real_group)])
    try:
        eventually(lambda: str(process.pid) in procs.read_text().split(), why="it is in the group")
        assert delegation.make_room(str(real_group))
        assert procs.read_text() == ""
        assert str(process.pid) in (real_group / delegation.LEAF / "cgroup.procs").read_text().split()
        assert delegation.make_room(str(real_group)), "nothing to do"
    finally:
        process.kill()
        process.wait(stretched(30))


def test_room_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    assert not delegation.make_room(str(tmp_path / "nowhere"))
    (tmp_path / "cgroup.procs").write_text("1\n")
    assert not delegation.make_room(str(tmp_path)), "there is no such file to be written in what is no control group"
    (tmp_path / "cgroup.procs").write_text("0\n1\n")
    written = tmp_path / delegation.LEAF / "cgroup.procs"
    written.touch()
    assert not delegation.make_room(str(tmp_path)), "a process of an outer PID namespace cannot be moved"
    assert written.read_text() == ""
