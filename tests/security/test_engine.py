"""Attacks on the engine from within containers: races of links under cp and export, floods, devices, bombs."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from containers.errors import ContainerError, MountError
from engine.engine import Engine
from engine.errors import EngineError
from tests.engine.conftest import busybox_root as busybox_root
from tests.engine.conftest import living as living
from tests.toolkit.bounds import eventually, stretched


def started(engine: Engine, script: str, *, name: str = "one", host: dict[str, Any] | None = None, **body: Any) -> str:
    asked = {"NetworkMode": "none", **(host or {})}
    made = engine.create(name, {"Image": "bb", "Cmd": ["sh", "-c", script], "HostConfig": asked, **body})
    engine.start(made.id)
    return made.id


def output(engine: Engine, name: str = "one") -> str:
    return b"".join(entry.data for entry in engine.logs(name)).decode(errors="replace")


def execute(engine: Engine, *args: str) -> None:
    """Start a process in the container, and leave it alone."""
    conversation, _answer = engine.execute("one", {"args": list(args)}, [])
    conversation.close()


@pytest.fixture
def racing(living: Engine, tmp_path: Path) -> Engine:
    """A container in which /d is a directory at one moment, and a link to a directory of the host's at the next."""
    (tmp_path / "file").write_text("the host's")
    script = f"""
    mkdir -p /real; echo inner >/real/file; ln -s {tmp_path} /link; echo ready
    while :; do ln -sfn /real /d; ln -sfn {tmp_path} /d; ln -sfn ../../../../../../../..{tmp_path} /d; done
    """
    started(living, script)
    eventually(lambda: "ready" in output(living))
    return living


def test_cp_out_of_a_container_that_changes_links_reads_nothing_of_the_hosts(racing: Engine, tmp_path: Path) -> None:
    for _ in range(40):
        reading, writing = os.pipe()
        try:
            racing.files.copy_out("one", "/d/file", writing)
        except (EngineError, ContainerError):
            continue
        finally:
            os.close(writing)
            with open(reading, "rb") as file:
                assert b"the host's" not in file.read()


def test_cp_into_a_container_that_changes_links_writes_nothing_on_the_host(racing: Engine, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("planted", "file"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    for _ in range(40):
        archive.seek(0)
        try:
            racing.files.copy_in("one", "/d", archive)
        except (EngineError, ContainerError):
            continue
    assert (tmp_path / "file").read_text() == "the host's"
    assert not (tmp_path / "planted").exists()


def test_export_of_a_container_that_changes_links_has_links(racing: Engine, tmp_path: Path) -> None:
    with open(tmp_path / "out.tar", "wb") as sink:
        racing.files.export("one", sink)
    assert b"the host's" not in (tmp_path / "out.tar").read_bytes()
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getmember("link").issym()


def test_a_flood_of_output_stays_within_its_files_and_holds_nobody_up(living: Engine) -> None:
    log = {"Type": "json-file", "Config": {"max-size": "100k", "max-file": "2"}}
    identity = started(living, "yes flood & yes >&2 flood", host={"LogConfig": log})
    folder = living.directory(identity) / "log"
    eventually(lambda: len(list(folder.iterdir())) >= 2)
    for _ in range(20):
        assert living.inspect("one")["State"]["Running"]
        assert _bytes(folder) < 3 << 20  # lines that had been read at once are written at once
    living.stop("one", timeout_s=0)
    assert living.inspect("one")["State"]["ExitCode"] == 137


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # the oldest goes when a new one comes
            total += path.stat().st_size
    return total


def test_a_volume_of_two_ranges_has_true_owners_and_is_closed_to_the_hosts_users(living: Engine) -> None:
    volume = {"Binds": ["data:/v"]}
    make = "touch /v/mine; chown 1000 /v/mine; cp /bin/busybox /v/su; chmod 4755 /v/su; echo done; sleep 1000"
    started(living, make, host=volume)
    eventually(lambda: "done" in output(living))
    started(living, "stat -c '%u %a' /v/mine /v/su; grep nosuid /proc/mounts | grep -c ' /v '", name="two", host=volume)
    assert living.wait("two") == 0
    assert output(living, "two").split() == ["1000", "644", "0", "4755", "1"]
    place = living.places.volumes / "data" / "_data" / "su"
    assert (place.stat().st_uid, place.stat().st_mode & 0o4000) == (0, 0o4000)
    theirs = subprocess.run(
        ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "sh", "-c", f"exec {place} true"],
        capture_output=True, timeout=stretched(30),
    )  # fmt: skip
    assert theirs.returncode != 0
    assert b"Permission denied" in theirs.stderr


def test_devices_are_no_devices_by_bind_and_cannot_be_made(living: Engine, tmp_path: Path) -> None:
    os.mknod(tmp_path / "zero", 0o666 | 0o020000, os.makedev(1, 5))
    (tmp_path / "zero").chmod(0o666)
    script = """
    head -c 1 /here/zero; head -c 1 /dev/full >/dev/null && echo own works
    mknod /tmp-zero c 1 5; mknod /here/new c 1 5; ls /here
    """
    binds = [f"{tmp_path}:/here"]
    started(living, f"({script}) 2>&1", host={"Binds": binds, "CapAdd": ["ALL"], "SecurityOpt": ["seccomp=unconfined"]})
    living.wait("one")
    lines = output(living).splitlines()
    assert lines.count("own works") == 1
    assert sum("Permission denied" in line for line in lines) == 1
    assert sum("Operation not permitted" in line for line in lines) == 2
    assert lines[-1] == "zero"
    with pytest.raises(MountError, match="cannot mount /dev/full"):
        started(living, "true", name="two", host={"Binds": ["/dev/full:/full"]})


_BOMB = "while :; do sleep 1000 & done"


@pytest.mark.parametrize("way", ["start", "exec", "health"])
def test_a_fork_bomb_in_each_way_in_stays_in_the_container(living: Engine, way: str) -> None:
    health = {"Test": ["CMD-SHELL", _BOMB], "Interval": 10**8, "Timeout": 10**9}
    bomb = f"({_BOMB}) 2>/dev/null & " if way == "start" else ""
    body: dict[str, Any] = {"Healthcheck": health} if way == "health" else {}
    started(living, f"{bomb}exec sleep 1000", host={"PidsLimit": 40}, **body)
    if way == "exec":
        execute(living, "sh", "-c", f"({_BOMB}) 2>/dev/null")

    def pids() -> int:
        return int(living.stats("one", None)[0]["pids_stats"]["current"])

    eventually(lambda: pids() > 30)
    assert pids() <= 42  # with the process that waits to join
    living.stop("one", timeout_s=0)
    assert living.inspect("one")["State"]["Status"] == "exited"


def test_memory_that_an_exec_takes_all_ends_what_is_in_the_container_and_not_its_keeper(living: Engine) -> None:
    memory = {"Memory": 24 << 20, "MemorySwap": 24 << 20}
    started(living, "while :; do sleep 0.1; done", host={**memory, "RestartPolicy": {"Name": "always"}})
    keeper = _parent(living.inspect("one")["State"]["Pid"])
    execute(living, "sh", "-c", "x=a; while :; do x=$x$x; done")
    eventually(lambda: living.stats("one", None)[0]["memory_stats"]["usage"] < 8 << 20)
    assert Path(f"/proc/{keeper}").exists()
    eventually(lambda: bool(living.inspect("one")["State"]["Running"]))
    assert _parent(living.inspect("one")["State"]["Pid"]) == keeper


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_privileged_containers_root_reaches_nothing_of_the_hosts(living: Engine, tmp_path: Path) -> None:
    script = f"""
    mkdir -p /m
    for each in cpuset memory; do
      mount -t cgroup -o $each none /m && {{ echo {tmp_path}/evil >/m/release_agent && echo agent; umount /m; }}
    done
    mount -t devtmpfs none /m && echo devtmpfs; mount -t debugfs none /m && echo debugfs
    cat /proc/1/root/etc/shadow /proc/kcore | head -c 1
    echo evil >/proc/sys/kernel/core_pattern && echo core
    echo 1 >/sys/kernel/uevent_helper && echo helper
    echo b >/proc/sysrq-trigger && echo rebooted
    for each in /sys/fs/cgroup/../../../sys/fs/cgroup/memory.max /sys/fs/cgroup/cgroup.max.depth; do
      echo 1 >$each && echo limits
    done
    grep -c . /proc/self/uid_map
    """
    started(living, f"({script}) 2>/dev/null", host={"Privileged": True})
    living.wait("one")
    assert output(living).split() == ["1"]
