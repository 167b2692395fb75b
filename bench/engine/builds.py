"""Builds by docker's command line with buildx, by our API and by dockerd: contexts of many files, and cached ones."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.engine.engines import BUSYBOX, Engine
from bench.figures import Figure
from bench.tools import ToolError
from bench.workloads import Sizes, copy_then_run

_STEPS: Final = 5
_SERVICES: Final = 3
_CONTEXT: Final = re.compile(r"^#(\d+) \[internal\] load build context$", re.MULTILINE)
_CROSSED: Final = 0.05
"""Seconds that a context is taken to need at least: buildx tells tenths."""


def builds(engines: Sequence[Engine], directory: Path, sizes: Sizes, runs: int) -> list[Figure]:
    """One engine right after the other in each round.

    engines: docker's command line reaches each; the first is ours.
    directory: for contexts.
    """
    return [*_contexts(engines, directory, sizes, runs), *_cached(engines, directory / "cached", 2 * runs)]


def _contexts(engines: Sequence[Engine], directory: Path, sizes: Sizes, runs: int) -> list[Figure]:
    """Contexts of many files: for the first time, how fast they cross; unchanged, the whole command."""
    rates: dict[str, list[float]] = {engine.name: [] for engine in engines}
    again: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number in range(runs):
        context = copy_then_run(directory / f"context-{number}", sizes, number)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY tree /tree\n")
        for engine in _turned(engines, number):
            os.sync()
            told = engine.command("build", "--progress", "plain", "-t", "context", context)
            rates[engine.name].append(sizes.total_bytes / 1e6 / _crossed(told))
        for engine in _turned(engines, number):
            os.sync()
            again[engine.name].append(engine.time("build", "--progress", "plain", "-t", "context", context))
    figures = []
    for engine in engines:
        is_ours = engine is engines[0]
        title = f"context of {sizes.files:,} files, first: {engine.name}"
        value = statistics.median(rates[engine.name])
        bound = 100.0 if is_ours else None
        figures.append(Figure(f"context-{engine.name}", title, value, "MB/s", rates[engine.name], bound, at_least=True))
    return [*figures, *_beside("unchanged", "the same, nothing changed, whole command", again, 0.5, None)]


def _crossed(told: str) -> float:
    """Seconds in which the context crossed, of buildx's plain progress."""
    found = _CONTEXT.search(told)
    done = re.search(rf"^#{found[1]} DONE ([0-9.]+)s$", told, re.MULTILINE) if found else None
    if done is None:
        raise ToolError(f"buildx does not tell of the context:\n{told[-2000:]}")
    return max(_CROSSED, float(done[1]))


def _cached(engines: Sequence[Engine], directory: Path, runs: int) -> list[Figure]:
    """Builds in which nothing changed, by each of docker's ways to ask for them."""
    directory.mkdir(parents=True)
    (directory / "file").write_text("x")
    steps = "".join(f"RUN echo {number} >/step-{number}\n" for number in range(_STEPS))
    (directory / "Dockerfile").write_text(f"FROM {BUSYBOX}\nCOPY file /file\n{steps}")
    services = "".join(f"  s{number}: {{build: {directory}, image: 's:{number}'}}\n" for number in range(_SERVICES))
    (directory / "compose.yaml").write_text(f"services:\n{services}")
    names = [f"t{number}" for number in range(_SERVICES)]
    targets = "".join(f'target "{name}" {{\n context = "{directory}"\n tags = ["{name}"]\n}}\n' for name in names)
    quoted = ", ".join(f'"{name}"' for name in names)
    (directory / "docker-bake.hcl").write_text(f'group "default" {{\n targets = [{quoted}]\n}}\n{targets}')
    figures = []
    for key, title, words in (
        ("build", "docker build, cached", ("build", "-t", "cached", directory)),
        ("compose-build", "docker compose build of 3, cached", ("compose", "-f", directory / "compose.yaml", "build")),
        ("bake", "docker buildx bake of 3, cached", ("buildx", "bake", "-f", directory / "docker-bake.hcl")),
    ):
        times: dict[str, list[float]] = {engine.name: [] for engine in engines}
        for number in range(-1, runs):
            for engine in _turned(engines, number):
                seconds = engine.time(*words)
                if number >= 0:  # the one before these builds
                    times[engine.name].append(seconds)
        figures += _beside(key, title, times, None, 1.0)
    return figures


def _turned(engines: Sequence[Engine], number: int) -> Sequence[Engine]:
    return engines if number % 2 else tuple(reversed(engines))


def _beside(
    key: str, title: str, times: dict[str, list[float]], seconds: float | None, ratio: float | None
) -> list[Figure]:
    """Each engine's times, and the median of the ratios of rounds. seconds, ratio: our budgets."""
    (ours, own), *others = times.items()
    figures = []
    for name, samples in times.items():
        bound = seconds if name == ours else None
        figures.append(Figure(f"{key}-{name}", f"{title}: {name}", statistics.median(samples), "s", samples, bound))
    for name, samples in others:
        ratios = [one / other for one, other in zip(own, samples, strict=True)]
        figures.append(Figure(f"{key}-by-{name}", f"… by {name}'s", statistics.median(ratios), "", ratios, ratio))
    return figures
