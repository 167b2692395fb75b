"""Starting, entering, listing; and what a container takes of the memory."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.engine.engines import BUSYBOX, Engine, Resident, Shiplap, memory_of
from bench.figures import Figure
from bench.tools import ToolError

LIVES: Final = ("sleep", "100000")
_FURNISHED: Final = ("--health-cmd", "true")
_FIRST_PORT: Final = 20_000
_MIB: Final = 1 << 20


def commands(engines: Sequence[Engine], runs: int) -> list[Figure]:
    """``run -d`` and ``exec``, whole commands, beside each other: one engine right after the other in each round."""
    for engine in engines:
        engine.command("run", "-d", "--name", "entered", BUSYBOX, *LIVES)
        engine.command("exec", "entered", "true")
    run = rounds(engines, runs, lambda engine: engine.time("run", "-d", BUSYBOX, *LIVES))
    enter = rounds(engines, runs, lambda engine: engine.time("exec", "entered", "true"))
    forget = rounds(engines, runs, lambda engine: engine.time("run", "--rm", BUSYBOX, "true"))
    for engine in engines:
        engine.clear()
    return [
        *_beside("run", "run -d of busybox", run, {"dockerd": 0.3}),
        *_beside("exec", "exec … true", enter, {"dockerd": 0.5}),
        *_beside("run-rm", "run --rm of busybox, true", forget, {"dockerd": 0.2}),
    ]


def many(engines: Sequence[Engine], count: int, runs: int) -> list[Figure]:
    """Containers that were created in a network with names, started by one command; all run at its end."""
    times = rounds(engines, runs, lambda engine: _start_many(engine, count))
    figures = _beside("many", f"{count} containers with names and network, started", times, {})
    return [
        Figure(each.key, each.title, each.value, each.unit, each.samples, 3.0 if each.key == "many-shiplap" else None)
        for each in figures
    ]


def memory(engines: Sequence[Engine], count: int, settling_s: float) -> list[Figure]:
    """What an engine's own processes take more (PSS) with ``count`` containers than with one, for each of them.

    settling_s: until what an engine keeps ready for a while after a start is gone, or there to stay.
    """
    figures = []
    for key, title, furnished, budget in (
        ("memory", "memory of a container", False, 2.5),
        ("memory-more", "the same with a port, names and health", True, 3.5),
    ):
        for engine in engines:
            value = _memory(engine, count, settling_s, furnished=furnished) / _MIB
            bound = budget if isinstance(engine, Shiplap) else None
            figures.append(Figure(f"{key}-{engine.name}", f"{title}: {engine.name}", value, "MiB", [value], bound))
    return figures


def listing(engine: Shiplap, count: int, runs: int) -> list[Figure]:
    """``ps -a`` of that many containers."""
    create_many(engine, count)
    samples = [engine.time("ps", "-a") for _ in range(runs)]
    engine.clear()
    return [Figure("ps", f"ps -a of {count:,} containers", statistics.median(samples), "s", samples, 0.150)]


def create_many(engine: Shiplap, count: int) -> None:
    """Create containers by one process of ours: a thousand commands would take minutes."""
    create = (
        "import sys; from pathlib import Path; from engine.engine import Engine; from engine.places import Places\n"
        "with Engine(Places.of(Path(sys.argv[1]))) as engine:\n"
        "    for number in range(int(sys.argv[2])):\n"
        "        engine.create(f'listed-{number}', {'Image': sys.argv[3], 'Cmd': ['sleep', '1000']})\n"
    )
    engine.host.run(
        [sys.executable, "-c", create, engine.root, str(count), BUSYBOX],
        {**engine.environment, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        timeout_s=600,
    )
    found = len(engine.command("ps", "-a", "-q").split())
    if found != count:
        raise ToolError(f"of {count} containers {found} are listed")


def rounds(engines: Sequence[Engine], runs: int, work: Callable[[Engine], float]) -> dict[str, list[float]]:
    """Seconds by engine, one engine right after the other in each round; another one begins each time."""
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number in range(runs):
        shift = number % len(engines)
        for engine in (*engines[shift:], *engines[:shift]):
            os.sync()
            times[engine.name].append(work(engine))
    return times


def _beside(key: str, title: str, times: dict[str, list[float]], budgets: dict[str, float]) -> list[Figure]:
    """Each engine's times, and ours by each peer's, without and with a resident: the median of the ratios in rounds."""
    figures = [
        Figure(f"{key}-{name}", f"{title}: {name}", statistics.median(samples), "s", samples)
        for name, samples in times.items()
    ]
    ours = {name: times[name] for name in (Shiplap.name, Resident.name) if name in times}
    for name, samples in times.items():
        for mine, own in ours.items():
            if name not in ours:
                ratios = [one / other for one, other in zip(own, samples, strict=True)]
                what = f"{key}-by-{name}" if mine == Shiplap.name else f"{key}-{mine}-by-{name}"
                said = f"… by {name}'s" if mine == Shiplap.name else f"… with a resident, by {name}'s"
                figures.append(Figure(what, said, statistics.median(ratios), "", ratios, budgets.get(name)))
    return figures


def _start_many(engine: Engine, count: int) -> float:
    engine.command("network", "create", "many")
    names = [f"many-{number}" for number in range(count)]
    for name in names:
        engine.command("create", "--name", name, "--network", "many", BUSYBOX, *LIVES)
    os.sync()
    seconds = engine.time("start", *names)
    running = len(engine.command("ps", "-q").split())
    if running != count:
        raise ToolError(f"{engine.name}: of {count} containers {running} run")
    engine.clear()
    engine.command("network", "rm", "many")
    return seconds


def _memory(engine: Engine, count: int, settling_s: float, *, furnished: bool) -> float:
    if furnished:
        engine.command("network", "create", "known")

    def run(number: int) -> None:
        more: tuple[str, ...] = ()
        if furnished:
            more = (*_FURNISHED, "--network", "known", "-p", f"{_FIRST_PORT + number}:80")
        engine.command("run", "-d", *more, BUSYBOX, *LIVES)

    run(0)
    first = _settled(engine, settling_s)
    for number in range(1, count + 1):
        run(number)
    every = _settled(engine, settling_s)
    engine.clear()
    if furnished:
        engine.command("network", "rm", "known")
    return (every - first) / count


def _settled(engine: Engine, settling_s: float) -> int:
    time.sleep(settling_s)
    return sum(map(memory_of, engine.processes()))
