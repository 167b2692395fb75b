"""A service in a control group with little memory: builds that eat all of it end alone, or it says why it cannot be."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

MIB = 1 << 20


@contextmanager
def limited_group(limit_bytes: int) -> Iterator[Path]:
    """A control group of version 1 or 2, beside the host's others."""
    top = Path("/sys/fs/cgroup")
    memory = top / "memory"
    group = (memory if memory.is_dir() else top) / f"shiplap-test-{os.getpid()}"
    if not memory.is_dir():
        (top / "cgroup.subtree_control").write_text("+memory")
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if memory.is_dir() else "memory.max")).write_text(str(limit_bytes))
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        eventually(lambda: _removed(group), why="the control group is empty")


def _removed(group: Path) -> bool:
    with suppress(OSError):
        group.rmdir()
    return not group.exists()


@pytest.fixture
def shiplap(privileged: None, tmp_path: Path, busybox_tar: Path) -> Shiplap:
    made = Shiplap(tmp_path / "root")
    made("image", "import", busybox_tar, BUSYBOX_NAME)
    return made


def serve(shiplap: Shiplap, group: Path, log: Path) -> subprocess.Popen[bytes]:
    """``shiplap serve`` in the group."""
    with log.open("wb") as output:
        return shiplap.start(
            "serve",
            "--listen",
            "127.0.0.1:0",
            stdout=output,
            stderr=output,
            preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
        )


def test_service_in_512_mib_outlives_steps_that_eat_all_memory(shiplap: Shiplap, tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    with limited_group(512 * MIB) as group:
        process = serve(shiplap, group, log)
        found: list[str] = []

        def serves() -> bool:
            assert process.poll() is None, log.read_text()
            found[:] = re.findall(r"Shiplap serves at (http://[\w.:]+)", log.read_text())
            return bool(found)

        eventually(serves, timeout_s=60, why="it serves")
        for number in range(3):
            eater, modest = tmp_path / f"eater{number}", tmp_path / f"modest{number}"
            for folder, command in ((eater, "exec tail /dev/zero"), (modest, "head -c 20000000 /dev/zero | wc -c")):
                folder.mkdir()
                (folder / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo {number}; {command}\n")
            failed = shiplap("--host", found[0], "build", "--progress", "plain", eater, check=False)
            assert failed.returncode == 1
            assert re.search(r"ended by signal 9 \(it ran out of memory: its limit is \d+ bytes\)", failed.stderr)
            assert "20000000" in shiplap("--host", found[0], "build", "--progress", "plain", modest).stderr
        told = log.read_text()
        assert "runs at a time: 1 instead of 2, for there are 512 MiB, the limit of the control group " in told
        assert "steps at a time in each: 1; memory for all steps: 128 MiB" in told
        process.send_signal(signal.SIGTERM)
        assert process.wait(stretched(60)) == 0


def test_service_in_too_little_memory_is_refused_with_the_figures(shiplap: Shiplap, tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    with limited_group(256 * MIB) as group:
        assert serve(shiplap, group, log).wait(stretched(60)) == 1
        assert re.search(
            r"error: there is too little memory to build with: 256 MiB, the limit of the control group .*;"
            r" it takes 480 MiB at least",
            log.read_text(),
        )
