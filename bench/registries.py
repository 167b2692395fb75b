"""The registries that are measured, each as a process, and uploads into them as curl makes them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.tools import ToolError, run

_POOL_BYTES: Final = 4 << 20
_START_S: Final = 30

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
"""What processor time is counted in."""


@contextlib.contextmanager
def docker_registry(directory: Path) -> Iterator[str]:
    with docker_registry_process(directory) as (host, _):
        yield host


@contextlib.contextmanager
def docker_registry_process(directory: Path) -> Iterator[tuple[str, int]]:
    """Its host, and the process."""
    directory.mkdir()
    port = _free_port()
    settings = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (directory / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
    with _serving(["docker-registry", "serve", directory / "config.yml"], port, directory / "log") as served:
        yield served


@contextlib.contextmanager
def shiplap_registry(directory: Path) -> Iterator[str]:
    with shiplap_registry_process(directory) as (host, _):
        yield host


@contextlib.contextmanager
def shiplap_registry_process(directory: Path) -> Iterator[tuple[str, int]]:
    """Its host, and the process."""
    directory.mkdir()
    port = _free_port()
    command: list[str | Path] = [Path(sys.executable).with_name("shiplap"), "--root", directory / "root"]
    command += ["registry", "serve", "--listen", f"127.0.0.1:{port}"]
    with _serving(command, port, directory / "log") as served:
        yield served


@contextlib.contextmanager
def _serving(command: list[str | Path], port: int, log: Path) -> Iterator[tuple[str, int]]:
    with log.open("wb") as output:
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise ToolError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.05)
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def upload(host: str, blob: Path, digest: str) -> None:
    """Begin, send, end: POST, PATCH, PUT."""
    located = ("curl", "-sSf", "-o", os.devnull, "-w", "%header{location}")
    place = _absolute(host, run([*located, "-X", "POST", f"http://{host}/v2/bench/blobs/uploads/"]))
    octets = ("-H", "Content-Type: application/octet-stream", "-H", "Expect:")
    place = _absolute(host, run([*located, "-X", "PATCH", *octets, "-T", blob, place]))
    run(["curl", "-sSf", "-X", "PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}"])


def _absolute(host: str, place: str) -> str:
    return place if "://" in place else f"http://{host}{place}"


def random_blob(path: Path, size: int, seed: int) -> tuple[Path, str]:
    """A file that does not compress, and its digest."""
    chance, content = random.Random(seed), hashlib.sha256()
    with path.open("wb") as file:
        for left in range(size, 0, -_POOL_BYTES):
            piece = chance.randbytes(min(left, _POOL_BYTES))
            content.update(piece)
            file.write(piece)
    return path, f"sha256:{content.hexdigest()}"


def cpu_s(pid: int) -> float:
    """Processor time of a process and of those that it started, in seconds."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) * TICK_S + sum(cpu_s(int(child)) for child in children)
