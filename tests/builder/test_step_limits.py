"""What a RUN may use of time, disk, output, memory and processes, and what its failure says."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.graph.vertices import RunOp
from builder.request.limits import StepLimits
from builder.running.step import why_it_failed
from builder.running.watch import Watch
from containers.limits import MEMORY_ABOVE
from containers.spec import ExitStatus
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap


def test_step_that_the_machines_memory_was_too_little_for_names_no_limit_of_its_own() -> None:
    """It said: its limit is 0 bytes."""
    status = ExitStatus(137, 9, exceeded=(MEMORY_ABOVE,))
    told = why_it_failed(RunOp(("/bin/sh", "-c", "tail /dev/zero"), (), "/", ""), status, StepLimits())
    assert told == (
        "process '/bin/sh -c tail /dev/zero' was ended by signal 9"
        " (memory ran out: that of this machine, or of all steps together)"
    )


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("sleep 60", ("--step-timeout", "1s"), "ran longer than 1 s, the limit of time for a step"),
        ("yes", ("--step-output", "1m"), "printed more than 1048576 bytes, the limit of output for a step"),
        (
            "dd if=/dev/urandom of=/x bs=1M count=60 && sleep 60",
            ("--step-disk", "20m"),
            "wrote more than 20971520 bytes, the limit of disk for a step",
        ),
        (
            "dd if=/dev/urandom of=/x bs=1M count=60",
            ("--step-disk", "20m"),
            "wrote more than 20971520 bytes, the limit of disk for a step",
        ),
        (
            "--mount=type=cache,target=/cache,id=limits dd if=/dev/urandom of=/cache/x bs=1M count=60 && sleep 60",
            ("--step-disk", "20m"),
            "wrote more than 20971520 bytes, the limit of disk for a step",
        ),
        (
            "--mount=type=bind,target=/bound,rw dd if=/dev/urandom of=/bound/x bs=1M count=60 && sleep 60",
            ("--step-disk", "20m"),
            "wrote more than 20971520 bytes, the limit of disk for a step",
        ),
        (
            "dd if=/dev/zero of=/dev/shm/x bs=1M count=99",
            ("-m", "32m", "--shm-size", "1g"),
            "ran out of memory: its limit is 33554432 bytes",
        ),
        (
            "for i in $(seq 40); do sleep 9 & done; wait",
            ("--pids-limit", "20"),
            "could not make more processes: its limit is 20",
        ),
        ("ulimit -n; false", ("--ulimit", "nofile=19797"), "exit code: 1"),
    ],
)
def test_step_over_a_limit_fails_and_says_which(
    base_store: Shiplap, tmp_path: Path, command: str, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN {command}\n")
    result = base_store("build", "--network", "none", *options, tmp_path, check=False)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Dockerfile:2" in result.stderr
    assert ("19797" in result.stderr) == ("--ulimit" in options)


def test_limits_are_no_part_of_the_cache_key(base_store: Shiplap, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN echo limits are no part of the key\n")
    first = base_store("build", "-q", "--network", "none", tmp_path).stdout
    second = base_store("build", "--network", "none", "-m", "64m", "--step-timeout", "90s", tmp_path)
    assert "CACHED" in second.stderr
    assert base_store("build", "-q", "--network", "none", tmp_path).stdout == first


def test_output_that_comes_too_fast_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waited: list[float] = []
    monkeypatch.setattr("builder.running.watch.time.sleep", waited.append)
    watch = Watch(StepLimits(output_rate=100), str(tmp_path))
    watch.printed(90)
    assert waited == []
    watch.printed(20)
    assert len(waited) == 1
    assert 0 < waited[0] <= 1
    assert watch.exceeded() is None


class _Disk:
    """A file system as ``statvfs`` tells of it: of a million blocks of 4096 bytes, with a million inodes."""

    f_frsize, f_blocks, f_files = 4096, 1_000_000, 1_000_000

    def __init__(self, free: int, free_inodes: int) -> None:
        self.f_bfree, self.f_ffree = free, free_inodes


def _disk(monkeypatch: pytest.MonkeyPatch, free: int, free_inodes: int = 900_000) -> None:
    monkeypatch.setattr("builder.running.watch.os.statvfs", lambda path: _Disk(free, free_inodes))


def test_step_that_makes_too_many_files_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A thousand empty files take next to no bytes, and all inodes of a disk that has a thousand."""
    monkeypatch.setattr("builder.running.watch._FEWEST_INODES", 10)
    _disk(monkeypatch, 900_000)
    watch = Watch(StepLimits(disk_bytes=4_000_000), str(tmp_path))  # a thousandth
    for number in range(1100):
        (tmp_path / str(number)).touch()
    assert watch.disk_exceeded() is None  # whoever filled it: not this file system
    _disk(monkeypatch, 900_000, 890_000)
    assert "made more than 976 files" in (watch.disk_exceeded() or "")
    for number in range(200):
        (tmp_path / str(number)).unlink()
    assert watch.disk_exceeded() is None  # others made as many


def test_step_that_hides_what_it_writes_is_stopped_when_the_disk_is_nearly_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _disk(monkeypatch, 900_000)
    watch = Watch(StepLimits(disk_bytes=4_000_000), str(tmp_path))
    _disk(monkeypatch, 200_000)
    assert watch.disk_exceeded() is None
    _disk(monkeypatch, 10_000)
    assert "the disk is nearly full: 40960000 bytes are free" in (watch.disk_exceeded() or "")
    assert Watch(StepLimits(disk_bytes=4_000_000), str(tmp_path)).disk_exceeded() is None  # it has written nothing


def test_step_is_stopped_although_others_free_as_much_as_it_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _disk(monkeypatch, 900_000)
    now = [1000.0]
    monkeypatch.setattr("builder.running.watch.time.monotonic", lambda: now[0])
    watch = Watch(StepLimits(disk_bytes=4_000_000), str(tmp_path))
    (tmp_path / "f").write_bytes(b"x" * 5_000_000)
    now[0] += 1
    assert watch.exceeded() is None  # nothing is counted at every look
    now[0] += 5
    assert "wrote more than 4000000 bytes" in (watch.exceeded() or "")
    assert "wrote more than 4000000 bytes" in (watch.disk_exceeded() or "")
    (tmp_path / "f").unlink()
    assert watch.disk_exceeded() is None
