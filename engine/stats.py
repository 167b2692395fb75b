"""What a container uses, as docker's document, from the counters that its keeper reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.hostinfo import memory_bytes
from engine.times import NEVER, text_of

_NO_BLOCKS: Final = (
    "io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive",
    "io_merged_recursive", "io_time_recursive", "sectors_recursive",
)  # fmt: skip


def document(
    identity: str, name: str, now: Mapping[str, Any] | None, before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """As docker's ``GET /containers/ID/stats``.

    now, before: counters as ``containers.keeper.counters`` has them; None: it does not run, or nothing came before.
    """
    found: dict[str, Any] = {
        "read": text_of(now["time_ns"]) if now else NEVER,
        "preread": text_of(before["time_ns"]) if before else NEVER,
        "pids_stats": _pids(now),
        "blkio_stats": _blocks(now),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _processors(now),
        "precpu_stats": _processors(before),
        "memory_stats": _memory(now),
        "name": f"/{name}",
        "id": identity,
    }
    if now and now["networks"]:
        found["networks"] = now["networks"]
    return found


def _pids(counted: Mapping[str, Any] | None) -> dict[str, Any]:
    if not counted:
        return {}
    limit = {"limit": counted["pids_limit"]} if counted["pids_limit"] else {}
    return {"current": counted["pids"], **limit}


def _blocks(counted: Mapping[str, Any] | None) -> dict[str, Any]:
    if not counted:
        return dict.fromkeys(("io_service_bytes_recursive", *_NO_BLOCKS))
    moved = [
        {"major": 0, "minor": 0, "op": op, "value": counted[key]}
        for op, key in (("read", "read_bytes"), ("write", "written_bytes"))
        if counted[key]
    ]
    return {"io_service_bytes_recursive": moved, **{name: [] for name in _NO_BLOCKS}}


def _processors(counted: Mapping[str, Any] | None) -> dict[str, Any]:
    throttling = {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
    if not counted:
        usage = {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
        return {"cpu_usage": usage, "throttling_data": throttling}
    return {
        "cpu_usage": {
            "total_usage": counted["cpu_ns"],
            "usage_in_kernelmode": counted["cpu_system_ns"],
            "usage_in_usermode": counted["cpu_user_ns"],
        },
        "system_cpu_usage": counted["system_ns"],
        "online_cpus": counted["cores"],
        "throttling_data": throttling,
    }


def _memory(counted: Mapping[str, Any] | None) -> dict[str, Any]:
    if not counted:
        return {}
    inactive = counted["memory_inactive_file_bytes"]
    return {
        "usage": counted["memory_bytes"],
        # Clients subtract the first or the second from usage, by the host's version of control groups.
        "stats": {"inactive_file": inactive, "total_inactive_file": inactive},
        "limit": counted["memory_limit_bytes"] or memory_bytes(),
    }
