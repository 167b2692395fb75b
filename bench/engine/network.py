"""Out of a container, and into it by a published port, from a neighbour on the host's wire.

The neighbour is another network namespace: dockerd brings it in by DNAT, not by its proxy. Streams are measured in
turns, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench.engine.engines import TRAFFIC, Engine, memory_of
from bench.engine.hosts import HOST, NEIGHBOUR
from bench.engine.image import PROGRAM, interpreter
from bench.figures import Figure
from bench.tools import ToolError

_PORT: Final = 9000
_PUBLISHED: Final = 18_000
_GBIT: Final = 1e9
_HERE: Final = str(Path(__file__).with_name("traffic.py"))
_LITTLE: Final = 32
_READY_S: Final = 30.0
_POLL_S: Final = 0.05
_MIB: Final = 1 << 20


def outward(engines: Sequence[Engine], pasta: Engine | None, seconds: int, runs: int) -> list[Figure]:
    """One stream from a container to the neighbour, and one back. pasta: an engine of ours with that way out."""
    measured: dict[tuple[str, str], list[float]] = {}
    every = [*engines, *([] if pasta is None else [pasta])]
    with contextlib.ExitStack() as stack:
        for engine in every:
            stack.enter_context(_neighbour_serves(engine))
            engine.command("run", "-d", "--name", "outward", TRAFFIC, "sleep", "100000")
        for _ in range(runs):
            for way in ("up", "down"):
                for engine in every:
                    name = "pasta" if engine is pasta else engine.name
                    said = engine.command("exec", "outward", *_traffic(way, NEIGHBOUR, str(_PORT), str(seconds)))
                    measured.setdefault((way, name), []).append(json.loads(said)["bits"] / _GBIT)
        for engine in every:
            engine.clear()
    figures = []
    for way in ("up", "down"):
        figures += [
            _stream(f"out-{way}-{name}", f"out of a container, {way}: {name}", measured[way, name])
            for name in (engine.name for engine in engines)
        ]
        figures += _by_docker(f"out-{way}", measured, way)
        if pasta is not None:
            samples = measured[way, "pasta"]
            title = f"the same by pasta, as without root, {way}"
            figures.append(
                Figure(f"out-{way}-pasta", title, statistics.median(samples), "Gb/s", samples, 1.0, at_least=True)
            )
    return figures


def published(engines: Sequence[Engine], seconds: int, runs: int, connections: int) -> list[Figure]:
    """A published port from the neighbour: streams, new connections, many open ones, datagrams."""
    measured: dict[tuple[str, str], list[float]] = {}
    opened: list[Figure] = []
    ways = ("up", "down", "connects", "udp")
    with contextlib.ExitStack() as stack:
        for engine in engines:
            ports = ("-p", f"{_PUBLISHED}:{_PORT}", "-p", f"{_PUBLISHED}:{_PORT}/udp")
            ulimit = ("--ulimit", "nofile=20000:20000")
            engine.command("run", "-d", "--name", "published", *ports, *ulimit, TRAFFIC, *_traffic("serve", str(_PORT)))
            stack.callback(engine.clear)
            wait_until_ready(engine, "published")
        for _ in range(runs):
            for way in ways:
                for engine in engines:
                    more = (str(_LITTLE),) if way == "udp" else ()
                    said = beside(engine, way, HOST, str(_PUBLISHED), str(seconds), *more)
                    value = said["bits"] / _GBIT if "bits" in said else said.get("rate", said.get("arrived"))
                    measured.setdefault((way, engine.name), []).append(value)
        for engine in engines:
            opened += _open(engine, connections)
    figures = []
    for way in ("up", "down"):
        for engine in engines:
            title = f"published port, {way}: {engine.name}"
            figures.append(_stream(f"port-{way}-{engine.name}", title, measured[way, engine.name]))
        figures += _by_docker(f"port-{way}", measured, way)
    for way, title, least in (
        ("connects", "published port, new connections", 3000.0),
        ("udp", "published port, datagrams that arrive", 40_000.0),
    ):
        for engine in engines:
            samples = measured[way, engine.name]
            bound = least if engine.name == "shiplap" else None
            figures.append(
                Figure(f"port-{way}-{engine.name}", f"{title}: {engine.name}", statistics.median(samples), "/s",
                       samples, bound, at_least=True)
            )  # fmt: skip
    return [*figures, *opened]


def beside(engine: Engine, *words: str) -> Any:
    """Run the program on the neighbour to its end; what it says."""
    program = engine.host.neighbour([interpreter(), _HERE, *words])
    said, _ = program.communicate()
    if program.returncode or not said.strip():
        raise ToolError(f"{engine.name}: traffic {' '.join(words)} exited {program.returncode}")
    return json.loads(said.splitlines()[-1])


def _open(engine: Engine, connections: int) -> list[Figure]:
    """Connections that are open at once and answer, and what the engine's processes have of the memory meanwhile."""
    before = sum(map(memory_of, engine.processes()))
    program = engine.host.neighbour([interpreter(), _HERE, "open", HOST, str(_PUBLISHED), str(connections)])
    assert program.stdout is not None
    line = program.stdout.readline()
    if not line:
        raise ToolError(f"{engine.name}: {connections} connections were not open at once")
    opened = float(json.loads(line)["open"])
    more = (sum(map(memory_of, engine.processes())) - before) / _MIB
    program.communicate()
    is_ours = engine.name == "shiplap"
    name = engine.name
    return [
        Figure(f"port-open-{name}", f"published port, open at once: {name}", opened, "", [opened],
               float(connections) if is_ours else None, at_least=True),
        Figure(f"port-open-memory-{name}", "… more memory of the engine's processes", more, "MiB", [more],
               60.0 if is_ours else None),
    ]  # fmt: skip


@contextlib.contextmanager
def _neighbour_serves(engine: Engine) -> Iterator[None]:
    server = engine.host.neighbour([interpreter(), _HERE, "serve", str(_PORT)])
    assert server.stdout is not None
    if server.stdout.readline().strip() != "ready":
        raise ToolError("the neighbour does not listen")
    try:
        yield
    finally:
        server.kill()
        server.communicate()


def wait_until_ready(engine: Engine, container: str) -> None:
    """Until the server in a container listens."""
    end = time.monotonic() + _READY_S
    while "ready" not in engine.command("logs", container):
        if time.monotonic() > end:
            raise ToolError(f"{engine.name}: the server in the container does not listen after {_READY_S:g} s")
        time.sleep(_POLL_S)


def _by_docker(key: str, measured: dict[tuple[str, str], list[float]], way: str) -> list[Figure]:
    ours, theirs = measured.get((way, "shiplap")), measured.get((way, "dockerd"))
    if not ours or not theirs:
        return []
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return [Figure(f"{key}-by-dockerd", "… by dockerd's", statistics.median(ratios), "", ratios, 0.9, at_least=True)]


def _stream(key: str, title: str, samples: list[float]) -> Figure:
    return Figure(key, title, statistics.median(samples), "Gb/s", samples)


def _traffic(*words: str) -> tuple[str, ...]:
    return (str(interpreter()), PROGRAM, *words)
