"""A changed file through the service: ``python -m bench.changed``. COPY of many files of which an editor changed one.

Once here, and once by ``--host`` on a service that has just been started again: its worker is a process that has seen
none of it. The service has its own store, and has built the context before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Final

from bench import workloads
from bench.figures import Figure, measure
from bench.service import serving, shiplap
from bench.tools import rootfs, run
from bench.workloads import Sizes

_BUDGET: Final = 1.3  # times the local build


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.changed", description="Time one changed file of many.")
    parser.add_argument("--runs", type=int, default=3, help="rounds  [default: 3]")
    parser.add_argument("--files", type=int, default=Sizes().files, help="of the context  [default: 20000]")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where all of it is kept")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    return measure(
        lambda directory: _measure(directory, options.runs, options.files),
        below=options.directory, prefix="chg-", output=options.output,  # short: there will be sockets in it
    )  # fmt: skip


def _measure(directory: Path, runs: int, files: int) -> list[Figure]:
    sizes = Sizes(files=files, total_bytes=files * 9000)
    context = workloads.copy_then_run(directory / "context", sizes, seed=0)
    root = directory / "r"
    here: list[float] = []
    there: list[float] = []
    for number in range(runs + 1):  # the first one is new for both
        workloads.change_one_file(context, salt=f"round {number}")
        with serving(root, concurrency=1) as service:
            ways = [(there, ["--host", service.url]), (here, ["--host", "local"])]
            for samples, where in ways if number % 2 else reversed(ways):
                store = root if samples is there else directory / "l"
                if samples is here and not number:
                    run([*shiplap(store), "image", "import", rootfs("busybox"), workloads.BASE])
                begin = time.perf_counter()
                run([*shiplap(store), *where, "build", "-q", context])
                if number:
                    samples.append(time.perf_counter() - begin)
    ratios = [queued / local for queued, local in zip(there, here, strict=True)]
    what = f"COPY of {files:,} files, one changed"
    return [
        Figure("local", f"{what}, here", statistics.median(here), "s", here),
        Figure("service", "the same through a service whose worker is new", statistics.median(there), "s", there),
        Figure("ratio", "the latter by the former", statistics.median(ratios), "", ratios, _BUDGET),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
