"""Processors, memory nodes, soft memory and block devices: what docker's HostConfig may ask for, and what not."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from engine import finelimits
from engine.errors import InvalidRequestError
from engine.fields import Fields


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four processors, two memory nodes; /dev/sd… are block devices."""
    monkeypatch.setattr(finelimits, "_processors", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(finelimits, "_memory_nodes", lambda: {0, 1})
    real = os.stat

    def seen(path: Any, **named: Any) -> os.stat_result:
        return os.stat_result([stat.S_IFBLK, *[0] * 9]) if str(path).startswith("/dev/sd") else real(path, **named)

    monkeypatch.setattr(os, "stat", seen)


def of(**host: Any) -> dict[str, Any]:
    return finelimits.read(Fields(host, "body.HostConfig"))


def refusal(**host: Any) -> str:
    with pytest.raises(InvalidRequestError) as refused:
        of(**host)
    return refused.value.message


def test_nothing_asked_for_is_nothing() -> None:
    assert of() == {}
    assert of(CpusetCpus="", MemorySwappiness=-1, BlkioWeight=0, BlkioWeightDevice=[], MemoryReservation=0) == {}


@pytest.mark.parametrize("text", ["0", "3", "0-3", "0,2", "0-1,3", "2-2", "0,,1"])
def test_processors_by_number(text: str) -> None:
    assert of(CpusetCpus=text) == {"cpuset_cpus": text}


@pytest.mark.parametrize("text", ["x", "-1", "0-", "1-0", "0--1", "1.0", "٣", "00000", "0-00003", "0 "])
def test_processors_that_are_no_numbers(text: str) -> None:
    assert refusal(CpusetCpus=text) == f"Invalid value {text} for cpuset cpus"


def test_processors_and_nodes_that_are_not_there() -> None:
    assert refusal(CpusetCpus="3-4") == "Requested CPUs are not available - requested 3-4, available: 0-3"
    assert refusal(CpusetMems="2") == "Requested memory nodes are not available - requested 2, available: 0-1"
    assert refusal(CpusetMems="y") == "Invalid value y for cpuset mems"
    assert of(CpusetMems="0-1") == {"cpuset_mems": "0-1"}


def test_soft_memory() -> None:
    least = 6 << 20
    assert of(MemoryReservation=least) == {"reservation_bytes": least}
    assert of(MemoryReservation=least, Memory=least) == {"reservation_bytes": least}
    for wanted in (least - 1, 1, -1):
        assert refusal(MemoryReservation=wanted) == "Minimum memory reservation allowed is 6MB"
    assert refusal(MemoryReservation=least + 1, Memory=least).startswith("Minimum memory limit can not be less than")


@pytest.mark.parametrize("number", [0, 60, 100])
def test_swappiness(number: int) -> None:
    assert of(MemorySwappiness=number) == {"swappiness": number}


@pytest.mark.parametrize("number", [-2, 101])
def test_swappiness_that_cannot_be(number: int) -> None:
    assert refusal(MemorySwappiness=number) == f"Invalid value: {number}, valid memory swappiness range is 0-100"


def test_block_devices() -> None:
    assert of(BlkioWeight=10, BlkioWeightDevice=[{"Path": "/dev/sda", "Weight": 1000}]) == {
        "blkio_weight": 10, "blkio_weights": [["/dev/sda", 1000]],
    }  # fmt: skip
    rates = {
        "BlkioDeviceReadBps": "rbps", "BlkioDeviceWriteBps": "wbps", "BlkioDeviceReadIOps": "riops",
        "BlkioDeviceWriteIOps": "wiops",
    }  # fmt: skip
    for name, kind in rates.items():
        assert of(**{name: [{"Path": "/dev/sda", "Rate": 1}]}) == {"throttles": [[kind, "/dev/sda", 1]]}
        for rate in (0, -1):
            assert (
                refusal(**{name: [{"Path": "/dev/sda", "Rate": rate}]}) == f"invalid rate for device /dev/sda: {rate}"
            )


@pytest.mark.parametrize("weight", [1, 9, 1001, -1])
def test_weights_that_cannot_be(weight: int) -> None:
    assert refusal(BlkioWeight=weight) == "Range of blkio weight is from 10 to 1000"
    wrong = refusal(BlkioWeightDevice=[{"Path": "/dev/sda", "Weight": weight}])
    assert wrong == "Range of blkio weight of /dev/sda is from 10 to 1000"


def test_what_is_no_block_device() -> None:
    assert refusal(BlkioWeightDevice=[{"Path": "/dev/null", "Weight": 10}]) == "no block device: /dev/null"
    assert refusal(BlkioWeightDevice=[{"Path": "/none", "Weight": 10}]) == "no such block device: /none"
    assert refusal(BlkioWeightDevice=[{"Path": "/a\0", "Weight": 10}]) == "no such block device: /a\0"
