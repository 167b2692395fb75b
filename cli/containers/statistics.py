"""What ``stats`` shows of a container, from docker's stats documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cli.listing import Listing, Row
from cli.progress.text import size_text

_SHORT: Final = 12
_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB")

STATISTICS: Final = Listing(
    {
        "ID": "CONTAINER ID",
        "Container": "CONTAINER",
        "Name": "NAME",
        "CPUPerc": "CPU %",
        "MemUsage": "MEM USAGE / LIMIT",
        "MemPerc": "MEM %",
        "NetIO": "NET I/O",
        "BlockIO": "BLOCK I/O",
        "PIDs": "PIDS",
    },
    ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"),
    "ID",
    "*container.statsContext",
)


def statistics_row(asked: str, document: Mapping[str, Any], *, no_trunc: bool = False) -> Row:
    """The fields of one container. asked: the name or ID by which it was asked for."""
    memory = document.get("memory_stats") or {}
    used = max(0, memory.get("usage", 0) - (memory.get("stats") or {}).get("inactive_file", 0))
    limit = memory.get("limit", 0)
    networks = (document.get("networks") or {}).values()
    received, sent = (sum(network[key] for network in networks) for key in ("rx_bytes", "tx_bytes"))
    fields = {
        "ID": document["id"] if no_trunc else document["id"][:_SHORT],
        "Container": asked,
        "Name": document["name"].removeprefix("/"),
        "CPUPerc": f"{_processors(document):.2f}%",
        "MemUsage": f"{_binary(used)} / {_binary(limit)}",
        "MemPerc": f"{used / limit * 100 if limit else 0:.2f}%",
        "NetIO": f"{size_text(received)} / {size_text(sent)}",
        "BlockIO": f"{size_text(_blocks(document, 'read'))} / {size_text(_blocks(document, 'write'))}",
        "PIDs": str((document.get("pids_stats") or {}).get("current", 0)),
    }
    return dict(sorted(fields.items()))  # as docker's JSON has them


def _processors(document: Mapping[str, Any]) -> float:
    """Per cent of one processor between the two samples of a document."""
    now, before = document["cpu_stats"], document["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    whole = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    if used <= 0 or whole <= 0 or not before.get("system_cpu_usage"):
        return 0.0
    return float(used / whole * (now.get("online_cpus") or 1) * 100)


def _blocks(document: Mapping[str, Any], op: str) -> int:
    entries = (document.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    return sum(entry["value"] for entry in entries if entry["op"].lower() == op)


def _binary(size_bytes: float) -> str:
    """Bytes in units of 1024, four digits, as docker shows memory: ``3.812MiB``."""
    for unit in _BINARY:
        if size_bytes < 1024 or unit == _BINARY[-1]:
            break
        size_bytes /= 1024
    return f"{size_bytes:.4g}{unit}"
