"""What is measured, and in which order.

A round does everything once with every tool, one tool right after the other, so that whatever else the machine does
hits all of them alike; which tool goes first changes from round to round.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import workloads
from bench.tools import Tool
from bench.workloads import Sizes


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. budget: the most that Shiplap may take, as a multiple of the peer's time (design.md)."""

    key: str
    title: str
    budget: float
    peer: str = "buildkit"


RUN_COLD = Row("run", "{steps} RUN steps, no cache", 0.1)
RUN_CACHED = Row("run-cached", "the same, all cached", 0.5)
COPY_COLD = Row("copy", "COPY of {files} files ({megabytes} MB), then RUN", 0.2)
COPY_CHANGED = Row("copy-changed", "the same, one file changed", 0.2)
COPY_CACHED = Row("copy-cached", "the same, nothing changed", 0.5)
ROWS = (RUN_COLD, RUN_CACHED, COPY_COLD, COPY_CHANGED, COPY_CACHED)


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed build. round: from 0."""

    row: str
    tool: str
    round: int
    seconds: float


def measure(
    tools: Sequence[Tool],
    *,
    directory: Path,
    sizes: Sizes,
    runs: int,
    rows: Iterable[str],
    progress: Callable[[Sample], None],
) -> list[Sample]:
    """Run ``runs`` rounds of the wanted ``rows`` (keys) and return every sample. Raises ToolError."""
    wanted = set(rows)
    samples: list[Sample] = []
    run_context = workloads.run_steps(directory / "run", sizes)
    for tool in tools:
        tool.build(run_context, cache=False)  # whatever a tool does once per base image is done

    for number in range(runs):
        shift = number % len(tools)
        order = [*tools[shift:], *tools[:shift]]

        def time_all(row: Row, context: Path, number: int = number, order: Sequence[Tool] = order) -> None:
            for tool in order:
                os.sync()  # nobody pays for what was written before
                begin = time.perf_counter()
                tool.build(context, cache=row not in (RUN_COLD, COPY_COLD))
                sample = Sample(row.key, tool.name, number, time.perf_counter() - begin)
                samples.append(sample)
                progress(sample)

        if wanted & {RUN_COLD.key, RUN_CACHED.key}:
            time_all(RUN_COLD, run_context)
            time_all(RUN_CACHED, run_context)
        if wanted & {COPY_COLD.key, COPY_CHANGED.key, COPY_CACHED.key}:
            context = workloads.copy_then_run(directory / f"copy-{number}", sizes, seed=number)
            time_all(COPY_COLD, context)
            workloads.change_one_file(context, salt=f"round {number}")
            time_all(COPY_CHANGED, context)
            time_all(COPY_CACHED, context)
            shutil.rmtree(context)
    return [sample for sample in samples if sample.row in wanted]
