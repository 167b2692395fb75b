"""Two hosts: ``python -m bench.hosts``. What a job's outputs take from the worker that made them to another host's.

A service with a worker, and a worker with a store of its own, which has nothing of the service but what a worker of
another host has. A job on the one outputs a ``node_modules`` of many files; a job on the other needs it. It is timed
from the last line of the first job's commands to the first line that the second one prints: packed, compressed, sent
to the service's registry, fetched, indexed and mounted. Beside it in each round ``tar | zstd -1`` of the same files,
and back into files. Each round's outputs differ, so that nothing of them is known.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench.figures import Figure, figure, measure
from bench.pipeline import Repository, seen_at
from bench.service import Service, serving, shiplap, wait_for_workers
from bench.tools import ToolError, rootfs, run
from bench.workloads import BASE

_IMAGE: Final = "bench-modules"
_POOL_BYTES: Final = 32 << 20
_WORDS: Final = 3000
_PER_DIRECTORY: Final = 20
_MADE, _BEGUN = "its commands are over", "the job has begun"
_PIPELINE: Final = f"""
jobs:
  make:
    image: {_IMAGE}
    workers: [one]
    outputs: [node_modules]
    run: |
      tar -xf /node_modules.tar
      echo $SHIPLAP_COMMIT > node_modules/commit
      echo {_MADE}
  use: {{needs: make, image: {BASE}, workers: [two], run: "echo {_BEGUN}; cat node_modules/commit"}}
"""
_LIMIT: Final = 3.0


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.hosts", description="Time outputs between two hosts.")
    parser.add_argument("--runs", type=int, default=3, help="samples of each figure  [default: 3]")
    parser.add_argument("--files", type=int, default=200_000, help="of the output  [default: 200000]")
    parser.add_argument("--mean", type=int, default=5000, help="bytes of a file, on average  [default: 5000]")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where all data is kept")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    return measure(
        lambda directory: list(_measure(directory, options.files, options.mean, options.runs)),
        below=options.directory, prefix="two-", output=options.output,  # short: there will be sockets in it
    )  # fmt: skip


def modules(top: Path, files: int, mean_bytes: int) -> None:
    """A ``node_modules`` in ``top``: small scripts, which compress as such do. No two are the same."""
    chance = random.Random(files)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(1, 12))) for _ in range(_WORDS)]
    weights = [1 / rank for rank in range(1, _WORDS + 1)]
    ends = ["(", ");\n", " = ", ".", " {\n  ", "}\n", ", ", " "]
    count = min(files * mean_bytes, _POOL_BYTES) // 8
    pool = "".join(word + chance.choice(ends) for word in chance.choices(words, weights, k=count)).encode()
    for number in range(files):
        package, part = divmod(number // _PER_DIRECTORY, 5)
        place = top / "node_modules" / f"package-{package}" / f"lib{part}"
        if number % _PER_DIRECTORY == 0:
            place.mkdir(parents=True)
        start, size = chance.randrange(len(pool)), int(chance.expovariate(1 / mean_bytes))
        (place / f"m{number}.js").write_bytes(b"// %d\n" % number + pool[start : start + size])


def _measure(directory: Path, files: int, mean_bytes: int, runs: int) -> Iterator[Figure]:
    tree = directory / "tree"
    modules(tree, files, mean_bytes)
    image = directory / "image.tar"
    shutil.copyfile(rootfs("busybox"), image)
    run(["tar", "-C", tree, "-cf", directory / "node_modules.tar", "node_modules"])
    run(["tar", "-C", directory, "-rf", image, "node_modules.tar"])
    repository = Repository(directory / "clone", 1, _PIPELINE)
    ours, theirs = [], []
    with serving(directory / "r", concurrency=1, labels="one") as service, _other_host(service, directory / "other"):
        run([*shiplap(service.root), "image", "import", image, _IMAGE])
        run([*shiplap(service.root), "--host", service.url, "project", "add", "bench", "--bare"])
        for number in range(1, runs + 1):
            ours.append(_crossed_s(repository, service.root / "git" / "bench.git"))
            theirs.append(_packed_and_back_s(tree, directory))
            print(f"round {number}: {ours[-1]:.1f} s beside {theirs[-1]:.1f} s", file=sys.stderr, flush=True)
    yield figure("crossing", f"outputs of {files:,} files, to a job on another host", ours, None)
    yield figure("tar-zstd", "tar | zstd -1 of the same, and back", theirs, None)
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    yield figure("crossing-ratio", "the former by the latter", ratios, _LIMIT, "")


def _crossed_s(repository: Repository, bare: Path) -> float:
    repository.change(1)
    environment = {**os.environ, "PATH": f"/usr/bin:/bin:{os.environ.get('PATH', '')}"}
    command: list[str | Path] = ["git", "push", "-q", "-o", "follow", bare, "HEAD:main"]
    made, begun = seen_at(command, repository.path, [f"| {_MADE}", f"| {_BEGUN}"], environment)
    return begun - made


def _packed_and_back_s(tree: Path, directory: Path) -> float:
    packed, back = directory / "packed.tar.zst", directory / "back"
    back.mkdir()
    began = time.perf_counter()
    run(["sh", "-ec", 'tar -C "$1" -cf - node_modules | zstd -q -f -1 -o "$2"', "sh", tree, packed])
    run(["sh", "-ec", 'zstd -dcq "$1" | tar -C "$2" -xf -', "sh", packed, back])
    seconds = time.perf_counter() - began
    shutil.rmtree(back)
    return seconds


@contextlib.contextmanager
def _other_host(service: Service, root: Path) -> Iterator[None]:
    """A worker with a store of its own; it has the image ``bench-base``."""
    run([*shiplap(root), "image", "import", rootfs("busybox"), BASE])
    key = root.parent / "other.key"
    token = run([*shiplap(service.root), "--host", service.url, "token", "add", "--scope", "build", "other"])
    shutil.copyfile(service.root / "serve" / "secret.key", key)
    key.chmod(0o600)
    environment = {
        **os.environ,
        "SHIPLAP_REDIS_URL": f"unix://{service.root}/serve/redis/redis.sock",
        "SHIPLAP_DATABASE_URL": f"sqlite:///{service.root}/serve/service.db",
        "SHIPLAP_SECRET_KEY_FILE": str(key),
        "SHIPLAP_REGISTRY": urlsplit(service.url).netloc,
        "SHIPLAP_WEB_URL": service.url,
        "SHIPLAP_WEB_TOKEN": token,
    }
    with (root.parent / "other.log").open("wb") as log:
        command = [*shiplap(root), "worker", "--concurrency", "1", "--name", "other", "--labels", "two"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for_workers(service, 2)
        yield
    except ToolError as error:
        raise ToolError(f"{error}\n{(root.parent / 'other.log').read_text()[-4000:]}") from error
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    raise SystemExit(main())
