"""A container's limits, as writes to its control groups, and which of them it ran into. (The launcher imports this:
only what is cheap.)

cgroup v2: Documentation/admin-guide/cgroup-v2.rst; v1: Documentation/admin-guide/cgroup-v1/ of the kernel.
"""

from __future__ import annotations

import errno
import os

from containers import finelimits
from containers.errors import LimitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from containers.hierarchies import Hierarchy

DEFAULT_SHM_BYTES: Final = 64 << 20  # docker's too
CPU_PERIOD_US: Final = 100_000
MIN_MEMORY_BYTES: Final = 6 << 20  # as docker: below, no program starts
UNLIMITED: Final = -1
MEMORY_ABOVE: Final = "memory above"
MEMORY_TOGETHER: Final = "memory together"
_EVENTS: Final = {1: "memory.oom_control", 2: "memory.events"}
_NEAR: Final = 2 << 20  # pages are charged many at a time


def settings(limits: dict[str, Any], hierarchy: Hierarchy) -> list[tuple[str, str]]:
    """The files of a container's group in ``hierarchy``, and what to write to them, in this order.

    limits: ``Limits._asdict()``; of a keeper's container with ``fine`` in it, see ``finelimits``.
    """
    found: list[tuple[str, str]] = []
    memory, total, pids = limits["memory_bytes"], limits["memory_swap_bytes"], limits["pids"]
    v2 = hierarchy.version == 2
    if "memory" in hierarchy.controllers and memory:
        total = total or 2 * memory  # docker's default: as much swap as memory
        if v2:
            found.append(("memory.max", str(memory)))
            found.append(("memory.swap.max", "max" if total == UNLIMITED else str(total - memory)))
        else:
            found.append(("memory.limit_in_bytes", str(memory)))
            found.append(("memory.memsw.limit_in_bytes", str(total)))
    if "cpu" in hierarchy.controllers:
        if limits["cpus"]:
            quota = max(1000, round(limits["cpus"] * CPU_PERIOD_US))
            if v2:
                found.append(("cpu.max", f"{quota} {CPU_PERIOD_US}"))
            else:
                found += [("cpu.cfs_period_us", str(CPU_PERIOD_US)), ("cpu.cfs_quota_us", str(quota))]
        if limits["cpu_shares"]:
            shares = min(max(2, limits["cpu_shares"]), 262144)
            # runc's mapping of 2..262144 to 1..10000
            found.append(("cpu.weight", str(1 + (shares - 2) * 9999 // 262142)) if v2 else ("cpu.shares", str(shares)))
    if "pids" in hierarchy.controllers and pids:
        found.append(("pids.max", str(pids)))
    return found + finelimits.settings(limits, hierarchy) if limits.get("fine") else found


def apply(limits: dict[str, Any], group: str, hierarchy: Hierarchy) -> None:
    """Write the limits to a container's group. Raises LimitError when the kernel does not take one."""
    for name, value in settings(limits, hierarchy):
        try:
            fd = os.open(f"{group}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except FileNotFoundError as error:
            if "sw" in name:
                continue  # the kernel does not account for swap: there is none to be limited
            raise LimitError(f"this host's cgroups have no {name}") from error
        except OSError as error:
            if error.errno == errno.EBUSY and name.startswith("memory."):
                raise too_little_memory(limits["memory_bytes"]) from error
            raise LimitError(f"cannot set {name} to {value}: {error.strerror}") from error


def too_little_memory(limit_bytes: int) -> LimitError:
    """The error of a container that cannot begin, because preparing it takes more memory."""
    return LimitError(
        f"the set-up of the container ran out of memory: its limit is {limit_bytes} bytes", hint="give it more"
    )


def missing(limits: dict[str, Any], hierarchies: list[Hierarchy]) -> str | None:
    """The controller that a limit needs and no hierarchy has; None when none is missing."""
    needed = {
        "memory": limits["memory_bytes"],
        "cpu": limits["cpus"] or limits["cpu_shares"],
        "pids": limits["pids"],
    }
    offered = {controller for hierarchy in hierarchies for controller in hierarchy.controllers}
    return next(
        (name for name, wanted in needed.items() if wanted and name not in offered and name not in limits["optional"]),
        None,
    )


def exceeded(group: str, hierarchy: Hierarchy, together: str = "") -> list[str]:
    """What processes of a group had too little of. together: the group above that has limits for several; may be empty.

    ``memory``: the group's limit was reached, and a process was killed for it.
    MEMORY_TOGETHER: a process was killed when the limit of ``together`` was reached.
    MEMORY_ABOVE: a process was killed when the memory of another group above or of the machine ran out.
    ``pids``: a fork failed.
    """
    found = []
    if "memory" in hierarchy.controllers and _count(f"{group}/{_EVENTS[hierarchy.version]}", "oom_kill"):
        if _reached_its_limit(group, hierarchy):
            found.append("memory")
        else:
            found.append(MEMORY_TOGETHER if together and _reached_its_limit(together, hierarchy) else MEMORY_ABOVE)
    if "pids" in hierarchy.controllers and _count(f"{group}/pids.events", "max"):
        found.append("pids")
    return found


def _reached_its_limit(group: str, hierarchy: Hierarchy) -> bool:
    """Version 1 does not tell whose limit it was: it was the group's own if so much was ever used."""
    if hierarchy.version == 2:
        return _count(f"{group}/memory.events", "oom") > 0
    for kind in ("", "memsw."):
        limit = _number(f"{group}/memory.{kind}limit_in_bytes")
        if limit and _number(f"{group}/memory.{kind}max_usage_in_bytes") > limit - _NEAR:
            return True
    return False


def _number(path: str) -> int:
    """What a file of version 1 says; 0 where this kernel has none such."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0


def _count(path: str, counter: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            pairs = dict(line.split() for line in file)
    except FileNotFoundError:
        return 0
    return int(pairs.get(counter, 0))
