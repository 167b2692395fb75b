"""What a RUN may use of time, disk, output, memory and processes, and what its failure says."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.limits import StepLimits, Watch
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap


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
    monkeypatch.setattr("builder.limits.time.sleep", waited.append)
    watch = Watch(StepLimits(output_rate=100), str(tmp_path))
    watch.printed(90)
    assert waited == []
    watch.printed(20)
    assert len(waited) == 1
    assert 0 < waited[0] <= 1
    assert watch.exceeded() is None
