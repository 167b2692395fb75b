"""How much memory a layer of several gigabytes takes: built, pushed, in our registry, and pulled."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from bench.tools import ToolError, run
from bench.workloads import BASE

BUDGET_BYTES: Final = 150_000_000
_POOL_BYTES: Final = 4 << 20

Serve = Callable[[Path], AbstractContextManager[tuple[str, int]]]
"""Runs a registry below a directory; gives its host and the process to look at."""


def measure(directory: Path, blob_bytes: int, serve: Serve) -> dict[str, Any]:
    """Build, push and pull an image of one layer that no compression makes smaller; and build one whose RUN writes it.

    Returns seconds and peak RSS in bytes, by what was done. Needs about six times ``blob_bytes`` of disk.
    """
    client: list[str | Path] = [Path(sys.executable).with_name("shiplap"), "--root", directory / "client"]
    context = directory / "context"
    context.mkdir()
    run([*client, "image", "import", run([Path(__file__).parents[1] / "scripts" / "rootfs", "busybox"]), BASE])
    write = f"RUN --network=none head -c {blob_bytes} /dev/zero > /big"
    (context / "Dockerfile").write_text(f"FROM {BASE}\n{write}\n")
    ran = _peak([*client, "build", "-q", context])
    shutil.rmtree(directory / "client")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY big /big\n")
    _write(context / "big", blob_bytes)
    with serve(directory / "server") as (host, server):
        name = f"{host}/memory:1"
        copied = _peak([*client, "build", "-q", "-t", name, context])
        shutil.rmtree(context)
        pushed = _peak([*client, "push", "-q", name])
        shutil.rmtree(directory / "client")
        pulled = _peak([*client, "pull", "-q", name])
        served = max(_high_water(pid) for pid in (server, *_children(server)))
    return {
        "blob_bytes": blob_bytes,
        "budget_bytes": BUDGET_BYTES,
        "seconds": {"RUN": ran[0], "COPY": copied[0], "push": pushed[0], "pull": pulled[0]},
        "peak_bytes": {"RUN": ran[1], "COPY": copied[1], "push": pushed[1], "pull": pulled[1], "server": served},
    }


def table(measured: dict[str, Any]) -> str:
    """The measurements for people."""
    megabytes = measured["blob_bytes"] // 1_000_000
    lines = [f"a layer of {megabytes} MB, built, pushed to our registry and pulled from it: memory at its highest"]
    for what, peak in measured["peak_bytes"].items():
        seconds = measured["seconds"].get(what)
        took = f"  in {seconds:6.1f} s" if seconds is not None else ""
        verdict = "ok" if peak <= BUDGET_BYTES else "OVER"
        lines.append(f"  {what:<7} {peak / 1e6:6.1f} MB of {BUDGET_BYTES / 1e6:.0f}  {verdict}{took}")
    return "\n".join(lines)


def _write(path: Path, size: int) -> None:
    """The same bytes over and over, too far between for compressors to see."""
    pool = random.Random(4).randbytes(_POOL_BYTES)
    with path.open("wb") as file:
        file.writelines(pool[: min(left, _POOL_BYTES)] for left in range(size, 0, -_POOL_BYTES))


def _peak(command: list[str | Path]) -> tuple[float, int]:
    """Run to the end; seconds, and the most memory that the process ever had, in bytes."""
    begin = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ToolError(f"{command} exited {process.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss << 10


def _high_water(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
