"""How much memory this process and those that it starts may use, and how much of it a worker's steps may have.

Control groups of version 2 have the limit in ``memory.max``, those of version 1 in ``memory.limit_in_bytes``. On a host
with both mounted, one of them has the controller. All groups above a group bound it. In a container the groups above
its own are out of sight; in version 1 ``memory.stat`` has their limit all the same.
Sources: cgroups(7), and Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from core.errors import SettingsError
from core.mountinfo import mounts, place_below

_MIB: Final = 1 << 20
WORKER_BYTES: Final = 96 * _MIB
"""What a worker's processes take that build nothing."""

RUN_BYTES: Final = 96 * _MIB
"""What Shiplap takes for each run at a time, its step not counted."""

SERVICE_BYTES: Final = 192 * _MIB
"""What the other processes of ``shiplap serve`` take."""

LEAST_STEP_BYTES: Final = 96 * _MIB
"""With less, few commands work at all."""

_AMPLE_STEP_BYTES: Final = 256 * _MIB
_NONE: Final = 1 << 62  # version 1 writes no limit as 2**63, rounded to pages
_MANY_STEPS: Final = 16  # more are not counted: a build seldom has so many at once


class MemoryLimit(NamedTuple):
    """The most memory that there is.

    memory_bytes: of memory.
    group: the directory of the control group that says so; empty where it is the machine's whole memory.
    swap_bytes: of swap beside it; None where no control group says.
    """

    memory_bytes: int
    group: str = ""
    swap_bytes: int | None = None

    def __str__(self) -> str:
        return f"{in_mib(self.memory_bytes)}, " + (
            f"the limit of the control group {self.group}" if self.group else "this machine's memory"
        )


class Capacity(NamedTuple):
    """What a worker takes on.

    runs: at a time.
    steps: of one run at a time; 0 is any number.
    bound_bytes: for the steps of all runs together.
    """

    runs: int
    steps: int
    bound_bytes: int


def in_mib(size_bytes: int) -> str:
    """``512 MiB``."""
    return f"{size_bytes // _MIB} MiB"


def memory_limit() -> MemoryLimit:
    """The limit of this process."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        texts = [Path("/proc/self", name).read_text("utf-8", "surrogateescape") for name in ("mountinfo", "cgroup")]
        return smallest_limit(physical, *texts)
    except FileNotFoundError:  # a kernel without control groups
        return MemoryLimit(physical)


def smallest_limit(physical_bytes: int, mountinfo: str, cgroup: str) -> MemoryLimit:
    """The least of the machine's memory and the limits of control groups.

    mountinfo, cgroup: the texts of /proc/PID/mountinfo and /proc/PID/cgroup of the process in question.
    """
    found = MemoryLimit(physical_bytes)
    for version, folder in _groups(mountinfo, cgroup):
        memory, swap = _limits(version, folder)
        if memory is not None and memory < found.memory_bytes:
            found = found._replace(memory_bytes=memory, group=str(folder))
        if swap is not None and (found.swap_bytes is None or swap < found.swap_bytes):
            found = found._replace(swap_bytes=swap)
    return found


def planned(limit: MemoryLimit, runs: int, reserved_bytes: int = 0) -> Capacity:
    """How many of ``runs`` a worker can have at a time with ``limit``, and what their steps may use.

    reserved_bytes: what other processes under the same limit take. Raises SettingsError when there is too little for
    one step of one run.
    """
    for count in range(runs, 0, -1):
        left = limit.memory_bytes - reserved_bytes - WORKER_BYTES - count * RUN_BYTES
        if left >= (count * _AMPLE_STEP_BYTES if count > 1 else LEAST_STEP_BYTES):
            bound = min(left, limit.memory_bytes // 8 * 7)
            steps = max(1, bound // count // _AMPLE_STEP_BYTES)
            return Capacity(count, 0 if steps > _MANY_STEPS else steps, bound)
    least = reserved_bytes + WORKER_BYTES + RUN_BYTES + LEAST_STEP_BYTES
    raise SettingsError(
        f"there is too little memory to build with: {limit}; it takes {in_mib(least)} at least",
        hint=f"of these a step has {in_mib(LEAST_STEP_BYTES)}, the rest is Shiplap's own",
    )


def _groups(mountinfo: str, cgroup: str) -> Iterator[tuple[int, Path]]:
    """The control groups that can limit a process's memory: (version, directory), its own and those above it."""
    own: dict[str, str] = {}
    for line in cgroup.splitlines():
        _number, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            own[name] = path
    for mount in mounts(mountinfo):
        if mount.kind == "cgroup2":
            version, controller = 2, ""
        elif mount.kind == "cgroup" and "memory" in mount.options:
            version, controller = 1, "memory"
        else:
            continue
        if controller not in own:
            continue
        top = Path(mount.place)
        below = place_below(own[controller], mount.root)
        for folder in (top / below, *(top / below).parents):
            yield version, folder
            if folder == top:
                break


def _limits(version: int, folder: Path) -> tuple[int | None, int | None]:
    """The limits of memory and of swap that a group has; None where there is none."""
    if version == 2:
        return _number(folder / "memory.max"), _number(folder / "memory.swap.max")
    memory, total = _number(folder / "memory.limit_in_bytes"), _number(folder / "memory.memsw.limit_in_bytes")
    above = _statistics(folder / "memory.stat")
    memory = _least(memory, above.get("hierarchical_memory_limit"))
    total = _least(total, above.get("hierarchical_memsw_limit"))
    return memory, None if memory is None or total is None else max(0, total - memory)


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text("ascii").strip()
    except OSError:  # the root group has none, nor has a group without the controller
        return None
    value = int(text) if text.isdecimal() else _NONE  # "max"
    return value if value < _NONE else None


def _statistics(path: Path) -> dict[str, int]:
    try:
        words = [line.split() for line in path.read_text("ascii").splitlines()]
    except OSError:
        return {}
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdecimal() and int(pair[1]) < _NONE}
