"""What docker's own clients see of Shiplap's API, beside dockerd: whole commands, and what many who follow cost."""

from __future__ import annotations

import contextlib
import http.client
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.engine.engines import BUSYBOX, Api, Docker, Engine, memory_of
from bench.engine.life import LIVES, create_many, rounds
from bench.figures import Figure
from bench.tools import ToolError

_SERVICES: Final = 10
_CONTAINERS: Final = 20
_PATHS: Final = ("/containers/{}/logs?follow=1&stdout=1&stderr=1", "/events")
_MIB: Final = 1 << 20
_WAIT_S: Final = 60.0


def commands(engines: Sequence[Engine], runs: int, count: int) -> list[Figure]:
    """docker's and compose's commands, one engine right after the other in each round. count: for ``docker ps -a``."""
    for engine in engines:
        engine.command("run", "-d", "--name", "entered", BUSYBOX, *LIVES)
        engine.command("exec", "entered", "true")
        _compose_file(engine).write_text(_compose(_SERVICES))
        _up(engine)  # the network's first container, and compose's own caches
    run = rounds(engines, runs, lambda engine: engine.time("run", "-d", BUSYBOX, *LIVES))
    enter = rounds(engines, runs, lambda engine: engine.time("exec", "entered", "true"))
    up = rounds(engines, max(1, runs // 2), _up)
    figures = [
        *_by_docker("run", "docker run -d", run),
        *_by_docker("exec", "docker exec … true", enter),
        *_by_docker("compose", f"docker compose up of {_SERVICES} services", up),
    ]
    for engine in engines:
        engine.clear()
        if isinstance(engine, Api):
            create_many(engine, count)
            samples = [engine.time("ps", "-a") for _ in range(runs)]
            title = f"docker ps -a of {count:,} containers"
            figures.append(Figure("docker-ps", title, statistics.median(samples), "s", samples, 0.150))
            engine.clear()
    return figures


def followers(api: Api, count: int) -> list[Figure]:
    """What the API's processes take with so many who follow logs and events, and how soon it answers the next one."""
    names = [f"followed-{number}" for number in range(min(_CONTAINERS, count))]
    for name in names:
        api.command("run", "-d", "--name", name, BUSYBOX, "sh", "-c", "while echo line; do sleep 0.1; done")
    alone = [_asked(api.socket) for _ in range(20)]
    with contextlib.ExitStack() as stack:
        streams = [_followed(stack, api.socket, names, number) for number in range(count)]
        reading = threading.Thread(target=_drain, args=(streams,), daemon=True)
        reading.start()
        time.sleep(2.0)
        answers = [_asked(api.socket) for _ in range(100)]
        memory = sum(map(memory_of, api.serving())) / _MIB
        for stream in streams:
            stream.shutdown(socket.SHUT_RDWR)
        reading.join(_WAIT_S)
    api.clear()
    last = statistics.quantiles(answers, n=100)[98]
    return [
        Figure("followers-memory", f"memory of the API with {count} followers", memory, "MiB", [memory], 90.0),
        Figure("followers-answer", "… the next request, 99 of 100", last, "s", answers, 0.050),
        Figure("followers-none", "… a request with no follower", statistics.median(alone), "s", alone),
    ]


def _by_docker(key: str, title: str, times: dict[str, list[float]]) -> list[Figure]:
    figures = [
        Figure(f"docker-{key}-{name}", f"{title}: {name}", statistics.median(samples), "s", samples)
        for name, samples in times.items()
    ]
    if Docker.name in times:
        ratios = [one / other for one, other in zip(times[Api.name], times[Docker.name], strict=True)]
        figures.append(Figure(f"docker-{key}-by-dockerd", "… by dockerd's", statistics.median(ratios), "", ratios, 0.5))
    return figures


def _compose_file(engine: Engine) -> Path:
    return engine.directory / "compose.yaml"


def _compose(services: int) -> str:
    service = f"{{image: {BUSYBOX}, command: sleep 100000, stop_signal: SIGKILL}}"
    return "name: many\nservices:\n" + "".join(f"  s{number}: {service}\n" for number in range(services))


def _up(engine: Engine) -> float:
    """How long ``compose up`` takes with nothing there, not even its network."""
    compose = ("compose", "--progress", "quiet", "-f", _compose_file(engine))
    seconds = engine.time(*compose, "up", "-d")
    running = len(engine.command(*compose, "ps", "-q").split())
    if running != _SERVICES:
        raise ToolError(f"{engine.name}: of {_SERVICES} services {running} run")
    engine.command(*compose, "down")
    return seconds


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=_WAIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _asked(path: Path) -> float:
    """Seconds until a new connection has the list of containers."""
    begin = time.perf_counter()
    with contextlib.closing(_Connection(path)) as connection:
        connection.request("GET", "/v1.45/containers/json")
        answer = connection.getresponse()
        answer.read()
    if answer.status != http.client.OK:
        raise ToolError(f"the API answers with {answer.status}")
    return time.perf_counter() - begin


def _followed(stack: contextlib.ExitStack, path: Path, names: Sequence[str], number: int) -> socket.socket:
    """A connection on which something has come."""
    stream = stack.enter_context(socket.socket(socket.AF_UNIX))
    stream.settimeout(_WAIT_S)
    stream.connect(str(path))
    asked = _PATHS[number % len(_PATHS)].format(names[number // len(_PATHS) % len(names)])
    stream.sendall(f"GET /v1.45{asked} HTTP/1.1\r\nHost: docker\r\n\r\n".encode())
    if not stream.recv(1024).startswith(b"HTTP/1.1 200"):
        raise ToolError(f"{asked} is refused")
    return stream


def _drain(streams: Sequence[socket.socket]) -> None:
    """Read all of them to their ends, in one thread."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                if not key.fileobj.recv(1 << 16):
                    selector.unregister(key.fileobj)
