"""What a container uses, as its control groups and its network count it: for ``stats``.

cgroup v2: cgroup-v2.rst; v1: cgroup-v1/{cpuacct,memory,pids,blkio-controller}.rst; /proc/PID/net/dev: proc(5).
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from containers.hierarchies import Hierarchy


def read(groups: list[tuple[Hierarchy, str]], pid: int) -> dict[str, Any]:
    """All counters that this host has; what it does not count is 0.

    groups: as ``cgroups.Session.groups``. pid: of a process in the container.
    cpu_ns, cpu_user_ns, cpu_system_ns: used so far. system_ns: by the whole machine, all cores together. cores: online.
    memory_bytes: with caches. memory_inactive_file_bytes: of caches that the kernel would drop first.
    """
    found: dict[str, Any] = {
        "time_ns": time.time_ns(),
        "cpu_ns": 0,
        "cpu_user_ns": 0,
        "cpu_system_ns": 0,
        "memory_bytes": 0,
        "memory_limit_bytes": 0,
        "memory_inactive_file_bytes": 0,
        "pids": 0,
        "pids_limit": 0,
        "read_bytes": 0,
        "written_bytes": 0,
    }
    for hierarchy, path in groups:
        (_read_version_2 if hierarchy.version == 2 else _read_version_1)(path, found)
        if "pids" in hierarchy.controllers:
            found["pids"] = _number(f"{path}/pids.current")
            found["pids_limit"] = _number(f"{path}/pids.max")
    found["system_ns"], found["cores"] = _machine()
    found["networks"] = _networks(pid)
    return found


def _read_version_2(path: str, found: dict[str, Any]) -> None:
    cpu = _pairs(f"{path}/cpu.stat")
    if cpu:
        found["cpu_ns"] = 1000 * cpu.get("usage_usec", 0)
        found["cpu_user_ns"] = 1000 * cpu.get("user_usec", 0)
        found["cpu_system_ns"] = 1000 * cpu.get("system_usec", 0)
    if os.path.exists(f"{path}/memory.current"):
        found["memory_bytes"] = _number(f"{path}/memory.current")
        found["memory_limit_bytes"] = _number(f"{path}/memory.max")
        found["memory_inactive_file_bytes"] = _pairs(f"{path}/memory.stat").get("inactive_file", 0)
    for line in _text(f"{path}/io.stat").splitlines():
        values = dict(word.split("=") for word in line.split()[1:] if "=" in word)
        found["read_bytes"] += int(values.get("rbytes", 0))
        found["written_bytes"] += int(values.get("wbytes", 0))


def _read_version_1(path: str, found: dict[str, Any]) -> None:
    if os.path.exists(f"{path}/cpuacct.usage"):
        found["cpu_ns"] = _number(f"{path}/cpuacct.usage")
        found["cpu_user_ns"] = _number(f"{path}/cpuacct.usage_user")
        found["cpu_system_ns"] = _number(f"{path}/cpuacct.usage_sys")
    if os.path.exists(f"{path}/memory.usage_in_bytes"):
        found["memory_bytes"] = _number(f"{path}/memory.usage_in_bytes")
        limit = _number(f"{path}/memory.limit_in_bytes")
        found["memory_limit_bytes"] = limit if limit < 1 << 62 else 0
        found["memory_inactive_file_bytes"] = _pairs(f"{path}/memory.stat").get("total_inactive_file", 0)


def _machine() -> tuple[int, int]:
    """What all processes have used, in ns, and how many cores are online."""
    lines = _text("/proc/stat").splitlines()
    ticks = [int(word) for word in lines[0].split()[1:9]]
    cores = sum(line.startswith("cpu") for line in lines) - 1
    return sum(ticks) * (1_000_000_000 // os.sysconf("SC_CLK_TCK")), cores


def _networks(pid: int) -> dict[str, dict[str, int]]:
    """By interface; without loopback."""
    names = ("rx_bytes", "rx_packets", "rx_errors", "rx_dropped")
    sent = ("tx_bytes", "tx_packets", "tx_errors", "tx_dropped")
    found = {}
    for line in _text(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        if name.strip() != "lo":
            found[name.strip()] = {
                **dict(zip(names, numbers[:4], strict=True)),
                **dict(zip(sent, numbers[8:12], strict=True)),
            }
    return found


def _pairs(path: str) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _number(path: str) -> int:
    """The number in a file; 0 for ``max``, and for none."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else 0


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:  # not counted here, or gone
        return ""
