"""Registries: ``python -m bench.registry``. Push and pull against docker on Debian's docker-registry, that registry's
throughput against ours, and how much memory a blob of 4 GB takes.

Both clients talk to one docker-registry, so that only they differ. Every round has content of its own, which neither
client nor registry has seen; images are made, and forgotten again, off the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from bench import memory, report, workloads
from bench.registries import (
    TICK_S,
    cpu_s,
    docker_registry,
    docker_registry_process,
    random_blob,
    shiplap_registry,
    shiplap_registry_process,
    upload,
)
from bench.rounds import Sample
from bench.scenarios import Row
from bench.tools import Docker, ToolError, run

PUSH_BIG = Row("push-big", "push of a {megabytes} MB layer", 0.2, "docker")
PULL_BIG = Row("pull-big", "pull of the same", 1.0, "docker")
PUSH_MANY = Row("push-many", "push of {layers} layers", 0.7, "docker")
PULL_MANY = Row("pull-many", "pull of the same", 0.7, "docker")
PUSH_AGAIN = Row("push-again", "push of {layers} layers, nothing new", 2.0, "docker")
PULL_AGAIN = Row("pull-again", "pull of the same, nothing new", 2.0, "docker")
LIST = Row("list", "list of images, one there", 1.0, "docker")
PULL_RUN = Row("pull-run", "pull of an image of {image} MB in {files} files, then the first RUN on it", 0.3, "docker")
SERVE = Row("serve", "{clients} clients, a {megabytes} MB blob each, from the registry", 1.0, "docker-registry")
UPLOAD = Row("upload", "upload of a blob of {megabytes} MB into the registry", 1.1, "docker-registry")
UPLOAD_CPU = Row("upload-cpu", "processor time of the registry for it", 1.0, "docker-registry")
ROWS = (PUSH_BIG, PULL_BIG, PUSH_MANY, PULL_MANY, PUSH_AGAIN, PULL_AGAIN, LIST, PULL_RUN, SERVE, UPLOAD, UPLOAD_CPU)
_OF_SERVERS = frozenset({SERVE.key, UPLOAD.key, UPLOAD_CPU.key})
BLOB_4G = "blob4g"
_KEYS = (*(row.key for row in ROWS), BLOB_4G)

_MEGABYTE = 1_000_000
_POOL_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """big_bytes: of the one layer. layers, layer_bytes: of the other image. image_bytes, files: of the one that a build
    starts from. clients: of the throughput row. memory_bytes: of the blob whose memory is measured."""

    big_bytes: int = 300 * _MEGABYTE
    layers: int = 50
    layer_bytes: int = 200_000
    image_bytes: int = 1_000 * _MEGABYTE
    files: int = 20_000
    clients: int = 16
    memory_bytes: int = 4_000 * _MEGABYTE


SHORT = Sizes(
    big_bytes=_MEGABYTE, layers=3, layer_bytes=10_000, image_bytes=_MEGABYTE, files=100, clients=2,
    memory_bytes=10 * _MEGABYTE,
)  # fmt: skip


class Client(Protocol):
    """What is measured: ``push``, ``pull``, ``list`` and ``build``; the rest happens off the clock."""

    name: str

    def load(self, archive: Path, name: str) -> None: ...
    def push(self, name: str) -> None: ...
    def pull(self, name: str) -> None: ...
    def list(self) -> None:
        """List what was pulled."""

    def build(self, context: Path) -> None:
        """Build on what was pulled."""

    def forget(self) -> None:
        """Have no image any more, nor anything of one."""


class ShiplapClient:
    """``shiplap`` with a root of its own for each image, so that nothing is known from before."""

    name = "shiplap"

    def __init__(self, directory: Path) -> None:
        self._command = Path(sys.executable).with_name("shiplap")
        self._directory = directory / "shiplap-client"

    def _run(self, root: str, *words: str | Path) -> str:
        return run([self._command, "--root", self._directory / root, *words])

    def load(self, archive: Path, name: str) -> None:
        self._run("push", "load", "-q", "-i", archive)
        self._run("push", "tag", "bench-image", name)

    def push(self, name: str) -> None:
        self._run("push", "push", name)

    def pull(self, name: str) -> None:
        self._run("pull", "pull", name)

    def list(self) -> None:
        self._run("pull", "image", "ls")

    def build(self, context: Path) -> None:
        self._run("pull", "build", "--progress", "plain", "-t", "bench", context)

    def forget(self) -> None:
        shutil.rmtree(self._directory)


class DockerClient:
    """``docker`` with a dockerd of its own."""

    name = "docker"

    def __init__(self, docker: Docker) -> None:
        self._docker = docker

    def load(self, archive: Path, name: str) -> None:
        self._docker.run("load", "-q", "-i", archive)
        self._docker.run("tag", "bench-image", name)

    def push(self, name: str) -> None:
        self._docker.run("push", name)

    def pull(self, name: str) -> None:
        self._docker.run("pull", name)

    def list(self) -> None:
        self._docker.run("image", "ls")

    def build(self, context: Path) -> None:
        self._docker.run("build", "--progress", "plain", "-t", "bench", context)

    def forget(self) -> None:
        self._docker.run("system", "prune", "--all", "--force")


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.registry", description="Time registry clients and servers.")
    parser.add_argument("--runs", type=int, default=5, help="rounds  [default: 5]")
    parser.add_argument("--short", action="store_true", help="small sizes, to see that it works; proves nothing")
    parser.add_argument("--no-docker", action="store_true", help="time Shiplap's client alone")
    parser.add_argument("--directory", type=Path, default="/var/tmp", help="where all tools keep their data")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument(
        "--rows", type=_rows, default=[row.key for row in ROWS], help=f"comma-separated: {', '.join(_KEYS)}"
    )
    options = parser.parse_args()
    sizes = SHORT if options.short else Sizes()
    samples: list[Sample] = []
    document: dict[str, Any] = {"machine": report.machine(), "sizes": asdict(sizes)}
    try:
        with contextlib.ExitStack() as stack:
            directory = Path(tempfile.mkdtemp(prefix="shiplap-bench-", dir=options.directory))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            clients: list[Client] = [ShiplapClient(directory)]
            if not options.no_docker and set(options.rows) - {*_OF_SERVERS, BLOB_4G}:
                clients.append(_docker_client(directory, stack))
            samples += _clients(clients, directory, sizes, options.runs, options.rows)
            if PULL_RUN.key in options.rows:
                samples += _first_runs(clients, directory, sizes, options.runs)
            if SERVE.key in options.rows:
                samples += _servers(directory, sizes, options.runs)
            if {UPLOAD.key, UPLOAD_CPU.key} & set(options.rows):
                samples += _uploads(directory, sizes, options.runs)
            if BLOB_4G in options.rows:
                document["memory"] = memory.measure(directory, sizes.memory_bytes, shiplap_registry_process)
    except ToolError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    document["rows"] = _show(samples, sizes, ["shiplap"] if options.no_docker else ["shiplap", "docker"])
    if "memory" in document:
        print(memory.table(document["memory"]))
    if options.output:
        document["finished_at"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _show(samples: Sequence[Sample], sizes: Sizes, tools: Sequence[str]) -> list[dict[str, Any]]:
    words = {
        "megabytes": str(sizes.big_bytes // _MEGABYTE),
        "layers": str(sizes.layers),
        "image": str(sizes.image_bytes // _MEGABYTE),
        "files": f"{sizes.files:,}",
        "clients": str(sizes.clients),
    }
    rows = report.summarize(samples, ROWS, words)
    for chosen, names in (
        ([row for row in rows if row["row"] not in _OF_SERVERS], tools),
        ([row for row in rows if row["row"] in _OF_SERVERS], ["shiplap", "docker-registry"]),
    ):
        if chosen:
            print(f"\n{report.table(chosen, list(names))}")
    return rows


def _rows(text: str) -> list[str]:
    chosen = text.split(",")
    for key in chosen:
        if key not in _KEYS:
            raise argparse.ArgumentTypeError(f"{key!r} is none of {', '.join(_KEYS)}")
    return chosen


def _docker_client(directory: Path, stack: contextlib.ExitStack) -> DockerClient:
    docker = Docker(directory)
    stack.callback(docker.stop)
    docker.start(_archive(directory / "base.tar", layers=1, layer_bytes=1000, seed=-1, rootfs=True))
    return DockerClient(docker)


def _clients(
    clients: Sequence[Client], directory: Path, sizes: Sizes, runs: int, rows: Collection[str]
) -> Iterator[Sample]:
    """A push and the pull after it, for each of the two images that ``rows`` has one of."""
    images = [
        (PUSH_BIG, PULL_BIG, 1, sizes.big_bytes),
        (PUSH_MANY, PULL_MANY, sizes.layers, sizes.layer_bytes),
    ]
    again = {PUSH_AGAIN.key, PULL_AGAIN.key, LIST.key}
    wanted = [
        image for image in images if {image[0].key, image[1].key, *(again if image[0] is PUSH_MANY else ())} & set(rows)
    ]
    if not wanted:
        return
    with docker_registry(directory / "registry") as host:
        for number in range(runs):
            for push, pull, layers, layer_bytes in wanted:
                for client in clients if number % 2 else reversed(clients):
                    # Each client pushes an image of its own: the registry would tell the second that it has the layers.
                    seed = hash((number, push.key, client.name)) & 0xFFFFFFFF
                    archive = _archive(directory / "image.tar", layers=layers, layer_bytes=layer_bytes, seed=seed)
                    name = f"{host}/{client.name}/{push.key}:{number}"
                    client.load(archive, name)
                    yield _timed(push, client.name, number, functools.partial(client.push, name))
                    if push is PUSH_MANY:
                        yield _timed(PUSH_AGAIN, client.name, number, functools.partial(client.push, name))
                    client.forget()
                    yield _timed(pull, client.name, number, functools.partial(client.pull, name))
                    if push is PUSH_MANY:
                        yield _timed(PULL_AGAIN, client.name, number, functools.partial(client.pull, name))
                        yield _timed(LIST, client.name, number, client.list)
                    client.forget()


def _first_runs(clients: Sequence[Client], directory: Path, sizes: Sizes, runs: int) -> Iterator[Sample]:
    """From an image that is at the registry only to the end of a RUN that reads some of its files."""
    made = workloads.Sizes(files=sizes.files, total_bytes=sizes.image_bytes)
    tree = workloads.copy_then_run(directory / "tree", made, seed=7)
    shutil.copyfile(run([Path(__file__).parents[1] / "scripts" / "rootfs", "busybox"]), tree / "base.tar")
    (tree / "Dockerfile").write_text("FROM scratch\nADD base.tar /\nCOPY tree /tree\n")
    context = directory / "first-run"
    context.mkdir()
    with docker_registry(directory / "registry-of-images") as host:
        name = f"{host}/bench:1"
        shiplap: list[str | Path] = [Path(sys.executable).with_name("shiplap"), "--root", directory / "maker"]
        run([*shiplap, "build", "-q", "--push", "-t", name, tree])
        for made_of in (directory / "maker", tree):
            shutil.rmtree(made_of)
        (context / "Dockerfile").write_text(f"FROM {name}\nRUN --network=none cat /tree/d0000/* | wc -c > /size\n")

        def pull_and_build(client: Client) -> None:
            client.pull(name)
            client.build(context)

        for number in range(runs):
            for client in clients if number % 2 else reversed(clients):
                yield _timed(PULL_RUN, client.name, number, functools.partial(pull_and_build, client))
                client.forget()


def _servers(directory: Path, sizes: Sizes, runs: int) -> Iterator[Sample]:
    """Throughput of one blob to many clients at once, which throw it away."""
    archive = _archive(directory / "image.tar", layers=1, layer_bytes=sizes.big_bytes, seed=1)
    servers: dict[str, Callable[[Path], contextlib.AbstractContextManager[str]]] = {
        "shiplap": shiplap_registry,
        "docker-registry": docker_registry,
    }
    with contextlib.ExitStack() as stack:
        urls = {}
        for name, serve in servers.items():
            host = stack.enter_context(serve(directory / f"serve-{name}"))
            client = ShiplapClient(directory)
            client.load(archive, f"{host}/bench:1")
            client.push(f"{host}/bench:1")
            client.forget()
            urls[name] = f"http://{host}/v2/bench/blobs/{_layer_digest(host)}"
        for number in range(runs):
            for name, url in urls.items() if number % 2 else reversed(urls.items()):
                yield _timed(SERVE, name, number, functools.partial(_fetch_at_once, url, sizes.clients))


def _uploads(directory: Path, sizes: Sizes, runs: int) -> Iterator[Sample]:
    """One blob into a registry in one stream, as curl sends it: the client is nobody's."""
    servers: dict[str, Callable[[Path], contextlib.AbstractContextManager[tuple[str, int]]]] = {
        "shiplap": shiplap_registry_process,
        "docker-registry": docker_registry_process,
    }
    with contextlib.ExitStack() as stack:
        serving = {name: stack.enter_context(serve(directory / f"upload-{name}")) for name, serve in servers.items()}
        for number in range(runs):
            for name, (host, pid) in serving.items() if number % 2 else reversed(serving.items()):
                blob, digest = random_blob(directory / "blob", sizes.big_bytes, seed=number)
                before = cpu_s(pid)
                yield _timed(UPLOAD, name, number, functools.partial(upload, host, blob, digest))
                yield Sample(UPLOAD_CPU.key, name, number, max(cpu_s(pid) - before, TICK_S))


def _timed(row: Row, tool: str, number: int, work: Callable[[], None]) -> Sample:
    os.sync()  # nobody pays for what was written before
    begin = time.perf_counter()
    work()
    sample = Sample(row.key, tool, number, time.perf_counter() - begin)
    print(f"round {number + 1}  {row.key:<10} {tool:<16} {sample.seconds:8.3f} s", flush=True)
    return sample


def _fetch_at_once(url: str, clients: int) -> None:
    fetching = [subprocess.Popen(["curl", "-sSf", "-o", os.devnull, url]) for _ in range(clients)]
    codes = [process.wait() for process in fetching]  # all of them, also when one failed
    if any(codes):
        raise ToolError(f"curl could not fetch {url}")


def _layer_digest(host: str) -> str:
    accept = "Accept: application/vnd.oci.image.manifest.v1+json"
    document = json.loads(run(["curl", "-sSf", "-H", accept, f"http://{host}/v2/bench/manifests/1"]))
    return str(document["layers"][0]["digest"])


def _archive(path: Path, *, layers: int, layer_bytes: int, seed: int, rootfs: bool = False) -> Path:
    """An image named ``bench-image`` as ``docker load`` takes it, whose layers nobody has seen; or a rootfs tar."""
    chance = random.Random(seed)
    pool = chance.randbytes(_POOL_BYTES)
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        directory = Path(name)
        files = []
        for number in range(layers):
            files.append(directory / f"layer-{number}.tar")
            with tarfile.open(files[-1], "w") as layer, open(directory / "content", "w+b") as content:
                for start in range(0, layer_bytes, _POOL_BYTES):
                    content.write(b"%d:%d" % (seed, number))
                    content.write(pool[: min(_POOL_BYTES, layer_bytes - start)])
                content.flush()
                layer.add(content.name, f"content-{number}")
        if rootfs:
            return files[0].replace(path)
        (directory / "Dockerfile").write_text("FROM scratch\n" + "".join(f"ADD {file.name} /\n" for file in files))
        shiplap: list[str | Path] = [Path(sys.executable).with_name("shiplap"), "--root", directory / "root"]
        run([*shiplap, "build", "-q", "-o", f"type=docker,name=bench-image,dest={path}", directory])
    return path


if __name__ == "__main__":
    raise SystemExit(main())
