"""How much memory a blob of several gigabytes takes on its way: our client's push and pull, our server in between."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from bench.tools import ToolError, run

BUDGET_BYTES: Final = 150_000_000
_POOL_BYTES: Final = 4 << 20
_PIECE_BYTES: Final = 16 << 10  # what tarfile reads at a time, and the pool is a multiple of

Serve = Callable[[Path], AbstractContextManager[tuple[str, int]]]
"""Runs a registry below a directory; gives its host and the process to look at."""


def measure(directory: Path, blob_bytes: int, serve: Serve) -> dict[str, Any]:
    """Push and pull an image of one layer that no compression makes smaller.

    Returns seconds and peak RSS in bytes, by what was done. Needs about six times ``blob_bytes`` of disk.
    """
    client: list[str | Path] = [Path(sys.executable).with_name("shiplap"), "--root", directory / "client"]
    archive = directory / "rootfs.tar"
    _write_tar(archive, blob_bytes)
    with serve(directory / "server") as (host, server):
        name = f"{host}/memory:1"
        run([*client, "image", "import", archive, name])
        archive.unlink()
        pushed = _peak([*client, "push", "-q", name])
        shutil.rmtree(directory / "client")
        pulled = _peak([*client, "pull", "-q", name])
        served = max(_high_water(pid) for pid in (server, *_children(server)))
    return {
        "blob_bytes": blob_bytes,
        "budget_bytes": BUDGET_BYTES,
        "seconds": {"push": pushed[0], "pull": pulled[0]},
        "peak_bytes": {"push": pushed[1], "pull": pulled[1], "server": served},
    }


def table(measured: dict[str, Any]) -> str:
    """The measurements for people."""
    megabytes = measured["blob_bytes"] // 1_000_000
    lines = [f"a blob of {megabytes} MB, pushed to our registry and pulled from it: memory at its highest"]
    for what, peak in measured["peak_bytes"].items():
        seconds = measured["seconds"].get(what)
        took = f"  in {seconds:6.1f} s" if seconds is not None else ""
        verdict = "ok" if peak <= BUDGET_BYTES else "OVER"
        lines.append(f"  {what:<7} {peak / 1e6:6.1f} MB of {BUDGET_BYTES / 1e6:.0f}  {verdict}{took}")
    return "\n".join(lines)


def _write_tar(path: Path, size: int) -> None:
    pool = random.Random(4).randbytes(_POOL_BYTES)
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo("big")
        entry.size = size // _PIECE_BYTES * _PIECE_BYTES
        tar.addfile(entry, _Repeated(pool))  # type: ignore[arg-type]  # it only reads


class _Repeated:
    """The pool over and over: too far between for compressors to see."""

    def __init__(self, pool: bytes) -> None:
        self._pool = pool
        self._at = 0

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, up to the pool's end."""
        data = self._pool[self._at : self._at + size]
        self._at = (self._at + len(data)) % len(self._pool)
        return data


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
