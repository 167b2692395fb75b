"""The finer limits of a container: processors and memory nodes by number, what is left to it when memory is short, and
the rates and weights of block devices, as writes to its control groups. (Keepers alone have them.)

cgroup v2: Documentation/admin-guide/cgroup-v2.rst; v1: cgroup-v1/{cpusets,memory,blkio-controller}.rst of the kernel.
"""

from __future__ import annotations

import os
import stat

from containers.errors import LimitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from containers.hierarchies import Hierarchy

THROTTLES: Final = ("rbps", "wbps", "riops", "wiops")
"""What is read and written in a second, as version 2 calls it."""

_THROTTLES_V1: Final = {
    "rbps": "blkio.throttle.read_bps_device",
    "wbps": "blkio.throttle.write_bps_device",
    "riops": "blkio.throttle.read_iops_device",
    "wiops": "blkio.throttle.write_iops_device",
}
_OF_DEVICES: Final = ("blkio_weight", "blkio_weights", "throttles")


def controllers(limits: dict[str, Any], *, io: bool) -> tuple[str, ...]:
    """The controllers that these limits need beside the usual ones. io: block devices are version 2's matter."""
    fine = limits.get("fine") or {}
    found = ["cpuset"] if fine.get("cpuset_cpus") or fine.get("cpuset_mems") else []
    if any(fine.get(name) for name in _OF_DEVICES):
        found.append("io" if io else "blkio")
    return tuple(found)


def settings(limits: dict[str, Any], hierarchy: Hierarchy) -> list[tuple[str, str]]:
    """The files of a container's group in ``hierarchy``, and what to write to them. Raises LimitError.

    limits: its member ``fine`` is a dictionary of:
        cpuset_cpus, cpuset_mems: numbers and ranges, as in ``0-2,4``.
        reservation_bytes: memory that it keeps when memory is short.
        swappiness: 0 to 100.
        blkio_weight: 10 to 1000, and blkio_weights: pairs of a device's path and its weight.
        throttles: [one of THROTTLES, a device's path, how many in a second].
    """
    fine = limits.get("fine") or {}
    v2 = hierarchy.version == 2
    found: list[tuple[str, str]] = []
    if "cpuset" in hierarchy.controllers:
        found += [(f"cpuset.{name}", fine[f"cpuset_{name}"]) for name in ("cpus", "mems") if fine.get(f"cpuset_{name}")]
    if "memory" in hierarchy.controllers:
        if fine.get("reservation_bytes"):
            found.append(("memory.low" if v2 else "memory.soft_limit_in_bytes", str(fine["reservation_bytes"])))
        if fine.get("swappiness") is not None:
            if v2:
                raise LimitError("--memory-swappiness: version 2 of control groups has no such setting")
            found.append(("memory.swappiness", str(fine["swappiness"])))
    if "io" in hierarchy.controllers or "blkio" in hierarchy.controllers:
        found += _of_devices(fine, v2=v2)
    return found


def _of_devices(fine: dict[str, Any], *, v2: bool) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    weight = fine.get("blkio_weight")
    if weight:
        found.append(("io.weight", f"default {_v2_weight(weight)}") if v2 else ("blkio.bfq.weight", str(weight)))
    for path, each in fine.get("blkio_weights") or ():
        device = _number(path)
        found.append(
            ("io.weight", f"{device} {_v2_weight(each)}") if v2 else ("blkio.bfq.weight_device", f"{device} {each}")
        )
    for kind, path, rate in fine.get("throttles") or ():
        device = _number(path)
        found.append(("io.max", f"{device} {kind}={rate}") if v2 else (_THROTTLES_V1[kind], f"{device} {rate}"))
    return found


def _v2_weight(weight: int) -> int:
    """runc's mapping of 10..1000 to 1..10000."""
    return 1 + (weight - 10) * 9999 // 990


def _number(path: str) -> str:
    """The number of a block device, as control groups have it. Raises LimitError."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise LimitError(f"cannot limit the device {path}: {error.strerror}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise LimitError(f"cannot limit {path}: it is no block device")
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
