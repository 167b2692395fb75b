"""How time grows with N instructions, N files, N images in the store, N steps in its cache; ``python -m bench.growth``.

Three sizes, ten times apart, and the exponent that fits them best: 1 is linear, 0 is no growth at all. What starting
takes makes small sizes look alike, so the exponent between the two largest sizes stands beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench import workloads
from bench.scenarios import emptied
from bench.tools import Shiplap, rootfs, run
from bench.workloads import Sizes
from images.records import CacheRecord
from images.store import Store

SIZES = (1_000, 10_000, 100_000)
_TIMES = 5
_IMAGES_PER_ARCHIVE = 10_000
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class Growth:
    """One line of the table. seconds: medians, by size."""

    title: str
    seconds: dict[int, float]

    @property
    def exponent(self) -> float:
        """The slope of log(seconds) over log(size), by least squares."""
        sizes, seconds = ([math.log(value) for value in values] for values in (self.seconds, self.seconds.values()))
        return statistics.linear_regression(sizes, seconds).slope

    @property
    def last_exponent(self) -> float:
        """The same of the two largest sizes alone."""
        return Growth(self.title, dict(sorted(self.seconds.items())[-2:])).exponent


Series = Callable[[Path, Shiplap, int, int, int], Iterator[tuple[str, float]]]
"""(an empty directory, a tool with the base image, size, number of the round, times) to what was done, and seconds.

times: how often to do what is short, and can be done again.
"""


def instructions(directory: Path, tool: Shiplap, size: int, number: int, times: int) -> Iterator[tuple[str, float]]:
    """A Dockerfile of ENV and LABEL in stages: an image's config with 100,000 entries of history would be no config."""
    del number, times
    context = workloads.many_stages(directory / "context", size)
    yield "N instructions, 1,000 in a stage, no cache", _timed(lambda: tool.build(context, cache=False))
    yield "the same, nothing changed", _timed(lambda: tool.build(context, cache=True))
    with (context / "Dockerfile").open("a") as file:
        file.write("LABEL last=changed\n")
    yield "the same, the last one added", _timed(lambda: tool.build(context, cache=True))


def files(directory: Path, tool: Shiplap, size: int, number: int, times: int) -> Iterator[tuple[str, float]]:
    """A context of files of 1 kB."""
    del times
    sizes = replace(Sizes(), files=size, total_bytes=size * 1000)
    context = workloads.copy_then_run(directory / "context", sizes, seed=size + number)
    yield "COPY of N files, then RUN", _timed(lambda: tool.build(context, cache=True))
    yield "the same files, nothing changed", _timed(lambda: tool.build(context, cache=True))
    workloads.change_one_file(context, salt=f"round {number}")
    yield "the same files, one changed", _timed(lambda: tool.build(context, cache=True))


def stored_images(directory: Path, tool: Shiplap, size: int, number: int, times: int) -> Iterator[tuple[str, float]]:
    """Images with a name each, of one small layer; builds beside them, and commands on one of them or on all."""
    del number
    archives = list(_archives(directory / "layout", size))
    yield (
        f"loading N images, {_IMAGES_PER_ARCHIVE:,} in an archive",
        sum(_timed(partial(tool.command, "image", "load", "-i", archive)) for archive in archives),
    )
    yield from _builds_beside(directory, tool, "N images", times)
    yield "image tag beside N images", _timed(lambda: tool.command("image", "tag", "bench", "other"), times)
    yield "image inspect beside N images", _timed(lambda: tool.command("image", "inspect", "many/image1"), times)
    numbers = iter(range(times))
    yield (
        "image rm beside N images",
        _timed(lambda: tool.command("image", "rm", f"many/image{next(numbers)}"), times),
    )
    yield "image ls of N images", _timed(lambda: tool.command("image", "ls"), times)
    yield "image prune that finds nothing", _timed(lambda: tool.command("image", "prune", "-f"), times)


def cached_steps(directory: Path, tool: Shiplap, size: int, number: int, times: int) -> Iterator[tuple[str, float]]:
    """What N steps of RUN leave: a record, a layer, a snapshot. Builds beside them, and going over them all."""
    del number
    with Store.open(tool.root) as store:
        for step in range(size):
            with store.layers.writer(sync=False) as writer:
                writer.write(hashlib.sha256(b"%d" % step).digest() * 48)
                layer = writer.commit()
            key = f"step {step}"
            store.cache.put(CacheRecord(key, key, layer, time.time(), 0.1, f"RUN {key}", bytes(300)))
            upper = store.snapshots.new_upper()
            Path(upper.path, "fs", "file").touch()
            store.snapshots.adopt(upper, layer, ())
    yield from _builds_beside(directory, tool, "N cached steps", times)
    yield "cache du of N steps", _timed(lambda: tool.command("cache", "du"), times)
    limit = ("cache", "prune", "--max-used-space", "1t")
    yield "cache prune that finds N steps below its limit", _timed(lambda: tool.command(*limit), times)
    yield "cache prune of N steps", _timed(lambda: tool.command("cache", "prune", "-f", "-a"))


def _builds_beside(directory: Path, tool: Shiplap, what: str, times: int) -> Iterator[tuple[str, float]]:
    context = workloads.run_steps(directory / "context", Sizes(steps=5))
    tool.build(context, cache=True)
    yield f"5 RUN steps beside {what}, no cache", _timed(lambda: tool.build(context, cache=False), times)
    yield f"the same beside {what}, nothing changed", _timed(lambda: tool.build(context, cache=True), times)
    numbers = iter(range(times))

    def build_another() -> None:
        with (context / "Dockerfile").open("a") as file:
            file.write(f"# {next(numbers)}\n")
        tool.build(context, cache=True)

    yield f"the same beside {what}, another Dockerfile, all cached", _timed(build_another, times)


SERIES: dict[str, Series] = {
    "instructions": instructions,
    "files": files,
    "images": stored_images,
    "steps": cached_steps,
}


def measure(directory: Path, names: Sequence[str], sizes: Sequence[int], rounds: int, times: int) -> list[Growth]:
    """Each series at each size, each round on a store of its own. ``directory`` needs some gigabytes."""
    base_tar = rootfs("busybox")
    found: dict[str, dict[int, list[float]]] = {}
    for name in names:
        for size in sizes:
            for number in range(rounds):
                place = emptied(directory / "series")
                tool = Shiplap(place)
                tool.start(base_tar)
                for title, seconds in SERIES[name](place, tool, size, number, times):
                    found.setdefault(title, {}).setdefault(size, []).append(seconds)
                    print(f"{size:>7,}  {seconds:8.3f} s  {title}", flush=True)
    return [
        Growth(title, {size: statistics.median(samples) for size, samples in by_size.items()})
        for title, by_size in found.items()
    ]


def table(lines: Sequence[Growth]) -> str:
    """Markdown."""
    sizes = sorted({size for line in lines for size in line.seconds})
    head = ["work", *(f"N = {size:,}" for size in sizes), "exponent", "of the last two"]
    rows = [
        [line.title, *(f"{line.seconds[size]:.3f} s" for size in sizes), f"{line.exponent:.2f}",
         f"{line.last_exponent:.2f}"]
        for line in lines
    ]  # fmt: skip
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def _timed(work: Callable[[], object], times: int = 1) -> float:
    """Seconds; the median of several."""
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def _archives(directory: Path, size: int) -> Iterator[Path]:
    """OCI layouts of ``size`` images that differ in a label; an archive may not have more than 100,000 files."""
    for first in range(0, size, _IMAGES_PER_ARCHIVE):
        yield _archive(emptied(directory), range(first, min(size, first + _IMAGES_PER_ARCHIVE)))


def _archive(directory: Path, numbers: range) -> Path:
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layer = bytes(1024)  # the end of a tar, and nothing before it

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    described = put(layer, _LAYER)
    manifests = []
    for number in numbers:
        config = {
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"number": str(number)}},
            "rootfs": {"type": "layers", "diff_ids": [described["digest"]]},
        }  # fmt: skip
        own = put(json.dumps(config).encode(), _CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": own, "layers": [described]}
        name = {"io.containerd.image.name": f"docker.io/many/image{number}:latest"}
        manifests.append({**put(json.dumps(manifest).encode(), _MANIFEST), "annotations": name})
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}
    (directory / "index.json").write_text(json.dumps(index))
    archive = directory.with_name(f"images-{numbers.start}.tar")
    run(["tar", "-cf", archive, "-C", directory, "oci-layout", "index.json", "blobs"])
    return archive


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="How time grows with N.")
    parser.add_argument("--series", nargs="+", choices=SERIES, default=list(SERIES))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="at least two")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--times", type=int, default=_TIMES, help="how often in a round, for what is short")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="on a disk, not in memory")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="shiplap-growth-", dir=options.directory))
    try:
        lines = measure(directory, options.series, options.sizes, options.rounds, options.times)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(table(lines))
    if options.output:
        document = [{"title": line.title, "seconds": line.seconds, "exponent": line.exponent} for line in lines]
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
