"""The finer limits of docker's HostConfig, as ``containers.finelimits`` has them: cpusets, soft memory, devices."""

from __future__ import annotations

import os
import stat
from typing import Any, Final

from containers.limits import MIN_MEMORY_BYTES
from engine.errors import InvalidRequestError
from engine.fields import Fields

_THROTTLES: Final = {
    "rbps": "BlkioDeviceReadBps",
    "wbps": "BlkioDeviceWriteBps",
    "riops": "BlkioDeviceReadIOps",
    "wiops": "BlkioDeviceWriteIOps",
}
_WEIGHTS: Final = range(10, 1001)


def read(body: Fields) -> dict[str, Any]:
    """What is asked for. Raises InvalidRequestError, in docker's words."""
    found: dict[str, Any] = {
        "cpuset_cpus": _numbers(body, "CpusetCpus", "CPUs", "cpuset cpus", _processors()),
        "cpuset_mems": _numbers(body, "CpusetMems", "memory nodes", "cpuset mems", _memory_nodes()),
        "reservation_bytes": _reservation(body),
        "blkio_weight": _weight(body.number("BlkioWeight"), "Range of blkio weight is from 10 to 1000"),
        "blkio_weights": [
            [
                _block_device(each.text("Path")),
                _weight(each.number("Weight"), f"Range of blkio weight of {each.text('Path')} is from 10 to 1000"),
            ]
            for each in body.objects("BlkioWeightDevice")
        ],
        "throttles": [
            [kind, _block_device(each.text("Path")), _rate(each)]
            for kind, name in _THROTTLES.items()
            for each in body.objects(name)
        ],
    }
    kept = {name: value for name, value in found.items() if value}
    if body.has("MemorySwappiness") and body.number("MemorySwappiness") != -1:
        swappiness = body.number("MemorySwappiness")
        if not 0 <= swappiness <= 100:
            raise InvalidRequestError(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
        kept["swappiness"] = swappiness
    return kept


def _reservation(body: Fields) -> int:
    wanted, memory = body.number("MemoryReservation"), body.number("Memory")
    if wanted < 0 or 0 < wanted < MIN_MEMORY_BYTES:
        raise InvalidRequestError("Minimum memory reservation allowed is 6MB")
    if 0 < memory < wanted:
        raise InvalidRequestError("Minimum memory limit can not be less than memory reservation limit, see usage")
    return wanted


def _weight(weight: int, wrong: str) -> int:
    if weight and weight not in _WEIGHTS:
        raise InvalidRequestError(wrong)
    return weight


def _rate(each: Fields) -> int:
    rate = each.number("Rate")
    if rate <= 0:
        raise InvalidRequestError(f"invalid rate for device {each.text('Path')}: {rate}")
    return rate


def _block_device(path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"no such block device: {path}") from error
    if not stat.S_ISBLK(mode):
        raise InvalidRequestError(f"no block device: {path}")
    return path


def _numbers(body: Fields, name: str, what: str, called: str, available: set[int]) -> str:
    """A list like ``0-2,4`` of what there is."""
    text = body.text(name)
    wanted: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        ends = [first, last] if dash else [first, first]
        if not all(end.isascii() and end.isdecimal() and len(end) < 5 for end in ends) or int(ends[0]) > int(ends[1]):
            raise InvalidRequestError(f"Invalid value {text} for {called}")
        wanted.update(range(int(ends[0]), int(ends[1]) + 1))
    if not wanted <= available:
        there = _as_list(available)
        raise InvalidRequestError(f"Requested {what} are not available - requested {text}, available: {there}")
    return text


def _as_list(numbers: set[int]) -> str:
    """``0-2,4``, as the kernel and docker write it."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _processors() -> set[int]:
    return set(range(os.cpu_count() or 1))


def _memory_nodes() -> set[int]:
    try:
        with open("/sys/devices/system/node/online", encoding="ascii") as file:
            parts = [part.split("-") for part in file.read().strip().split(",")]
    except OSError:
        return {0}
    return {number for ends in parts for number in range(int(ends[0]), int(ends[-1]) + 1)}
