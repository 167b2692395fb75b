"""In which order things are measured.

A round does everything once with every tool, one tool right after the other, so that whatever else the machine does
hits all of them alike; which tool goes first changes from round to round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import workloads
from bench.scenarios import OFF_THE_CLOCK, Row, Scenario, emptied
from bench.tools import Tool
from bench.workloads import Sizes


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed build. round: from 0. seconds: what counts of it; below 0 for a tool faster than the plain work."""

    row: str
    tool: str
    round: int
    seconds: float


def measure(
    tools: Sequence[Tool],
    scenarios: Mapping[Scenario, tuple[Row, ...]],
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
    first = workloads.run_steps(directory / "first", sizes)
    for tool in tools:
        tool.build(first, cache=False)  # whatever a tool does once per base image is done
    for number in range(runs):
        shift = number % len(tools)
        order = [*tools[shift:], *tools[:shift]]
        for scenario, its_rows in scenarios.items():
            if not wanted.intersection(row.key for row in its_rows):
                continue
            place = emptied(directory / "scenario")
            for timing in scenario(place, sizes, number):
                for tool in order:
                    os.sync()  # nobody pays for what was written before
                    begin = time.perf_counter()
                    timing.work(tool)
                    sample = Sample(timing.row.key, tool.name, number, time.perf_counter() - begin - timing.own_s)
                    if timing.row is not OFF_THE_CLOCK:
                        samples.append(sample)
                        progress(sample)
            emptied(place)
    return [sample for sample in samples if sample.row in wanted]
