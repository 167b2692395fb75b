"""Docker's options for limits, and a step's: from text to numbers, and what they do."""

from __future__ import annotations

from typing import Any

import pytest

from cli.errors import CommandError
from cli.limits import container_limits, resource_limits, shm_bytes, step_limits
from containers.resources import Limits, ResourceLimit
from core.quantities import parse_size
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

NONE: dict[str, Any] = {
    "memory": "", "memory_swap": "", "cpus": "", "cpu_period": 0, "cpu_quota": 0, "cpu_shares": 0, "pids_limit": None,
    "ulimits": (), "shm_size": "", "step_timeout": "", "step_disk": "", "step_output": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512", 512),
        ("512b", 512),
        ("64m", 64 << 20),
        ("1.5g", 3 << 29),
        ("2 GiB", 2 << 30),
        ("1kb", 1024),
        ("1T", 1 << 40),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1e3", "٣m", "1 2m"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Limits()),
        ({"memory": "64m"}, Limits(memory_bytes=64 << 20)),
        ({"memory": "64m", "memory_swap": "-1"}, Limits(64 << 20, -1)),
        ({"memory": "64m", "memory_swap": "64m"}, Limits(64 << 20, 64 << 20)),
        ({"cpus": "1.5"}, Limits(cpus=1.5)),
        ({"cpu_quota": 50_000}, Limits(cpus=0.5)),
        ({"cpu_quota": 50_000, "cpu_period": 25_000}, Limits(cpus=2.0)),
        ({"cpu_shares": 512}, Limits(cpu_shares=512)),
        ({"cpu_quota": -1}, Limits()),
        ({"cpus": "0.01"}, Limits(cpus=0.01)),
        ({"cpus": "9999"}, Limits(cpus=9999)),
        ({"memory": "6m"}, Limits(memory_bytes=6 << 20)),
        ({"memory": "64m", "memory_swap": "65m"}, Limits(64 << 20, 65 << 20)),
        ({"pids_limit": 0}, Limits()),
        ({"pids_limit": 9}, Limits(pids=9)),
        ({"pids_limit": -1}, Limits()),
    ],
)
def test_limits_of_a_container(options: dict[str, Any], expected: Limits) -> None:
    assert container_limits(NONE | options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "1m"}, "too little"),
        ({"memory": "much"}, "is no size"),
        ({"memory_swap": "1g"}, "needs --memory"),
        ({"memory": "64m", "memory_swap": "32m"}, "cannot be less"),
        ({"cpus": "0"}, "no number of processors"),
        ({"cpus": "many"}, "no number of processors"),
        ({"cpus": "1", "cpu_quota": 5}, "the same thing"),
        ({"cpus": "1", "cpu_period": 5}, "the same thing"),
        ({"cpus": "10000"}, "no number of processors"),
        ({"cpus": "0.009"}, "no number of processors"),
        ({"cpus": "nan"}, "no number of processors"),
        ({"ulimits": ("nofile=-1:2",)}, "above the hard one"),
        ({"ulimits": ("nofile",)}, "write nofile=SOFT or nofile=SOFT:HARD, in numbers"),
        ({"memory": "6291455"}, "--memory 6291455 is too little: no program starts"),
        ({"memory": "64m", "memory_swap": "all"}, "--memory-swap 'all' is no size"),
        ({"pids_limit": -2}, "-1 for any"),
        ({"cpu_shares": -1}, "weight"),
        ({"ulimits": ("files=3",)}, "no limit is called 'files'"),
        ({"ulimits": ("nofile=few",)}, "in numbers"),
        ({"ulimits": ("nofile=3:2",)}, "above the hard one"),
        ({"shm_size": "0"}, "has to be more"),
        ({"step_timeout": "soon"}, "no duration"),
        ({"step_disk": "all"}, "is no size"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        step_limits(NONE | options)


def test_ulimits_and_shared_memory() -> None:
    assert resource_limits(["nofile=10:20", "core=-1", "nproc=5"]) == (
        ResourceLimit("nofile", 10, 20),
        ResourceLimit("core", -1, -1),
        ResourceLimit("nproc", 5, 5),
    )
    assert (shm_bytes(""), shm_bytes("1m")) == (64 << 20, 1 << 20)


def test_a_build_keeps_a_fork_bomb_in_bounds_unless_told_otherwise() -> None:
    assert step_limits(NONE).container.pids > 0
    assert step_limits(NONE | {"pids_limit": -1}).container == Limits()
    usual = step_limits(NONE)
    assert (usual.timeout_s, usual.disk_bytes, usual.output_bytes, usual.ulimits) == (0, 0, 0, ())
    assert usual.shm_bytes == 64 << 20
    assert step_limits(NONE | {"pids_limit": 9}).container == Limits(pids=9)
    assert step_limits(NONE | {"memory": "64m"}).container.pids == usual.container.pids
    limits = step_limits(NONE | {"step_timeout": "90s", "step_disk": "1g", "step_output": "1m"})
    assert (limits.timeout_s, limits.disk_bytes, limits.output_bytes) == (90, 1 << 30, 1 << 20)


def test_run_says_that_memory_ran_out(base_store: Shiplap) -> None:
    fill = ("dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=99")
    result = base_store("run", "-m", "32m", "--shm-size", "1g", BUSYBOX_NAME, *fill, check=False)
    assert result.returncode == 137
    assert "the container ran into its limit of memory" in result.stderr
