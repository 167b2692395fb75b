"""What no tool can save: ``python -m bench.floors``. Bytes in memory, hashed and written, by a thread for each.

A row of the bench whose budget lies below its floor is held to 1.15 times of it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from bench.figures import Figure, measure
from bench.registries import random_blob

_CHUNK_BYTES: Final = 1 << 20
_MEGABYTE: Final = 1_000_000


class Floor(NamedTuple):
    """The least work of a row.

    copies: how often the bytes are written, each time hashed on the way.
    hashes: how often they are hashed besides.
    """

    key: str
    title: str
    megabytes: int
    copies: int
    hashes: int


FLOORS: Final = (
    Floor("from-stage", "COPY --from: the content's hash; the layer, hashed and written", 1000, 1, 1),
    Floor("copy-changed", "COPY, one file changed: the last layer checked; the new one, hashed and written", 180, 1, 1),
    Floor("pull", "pull: what comes and what is in it, each hashed and written", 300, 2, 0),
)


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.floors", description="Time hashing and writing alone.")
    parser.add_argument("--runs", type=int, default=3, help="rounds  [default: 3]")
    parser.add_argument("--short", action="store_true", help="small sizes, to see that it works; proves nothing")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where the bytes are written")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    return measure(
        lambda directory: [_figure(floor, directory, options.runs, short=options.short) for floor in FLOORS],
        below=options.directory, prefix="flr-", output=options.output,
    )  # fmt: skip


def _figure(floor: Floor, directory: Path, runs: int, *, short: bool) -> Figure:
    source, _ = random_blob(directory / "source", _MEGABYTE if short else floor.megabytes * _MEGABYTE, seed=1)
    samples = []
    for number in range(runs):
        os.sync()
        works: list[Callable[[], None]] = []
        for copy in range(floor.copies):
            target = directory / f"{floor.key}-{number}-{copy}"  # removed with the directory: see bench.rounds
            works.append(lambda target=target: _copy(source, target))  # type: ignore[misc]
        works += [lambda: _copy(source, None)] * floor.hashes
        threads = [threading.Thread(target=work) for work in works]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        samples.append(time.perf_counter() - begin)
    return Figure(floor.key, f"{floor.title} ({floor.megabytes} MB)", statistics.median(samples), "s", samples)


def _copy(source: Path, target: Path | None) -> None:
    checksum = hashlib.sha256()
    with source.open("rb", buffering=0) as reading, (target or Path(os.devnull)).open("wb", buffering=0) as writing:
        while data := reading.read(_CHUNK_BYTES):
            checksum.update(data)
            writing.write(data)


if __name__ == "__main__":
    raise SystemExit(main())
