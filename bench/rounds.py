"""In which order things are measured.

A round does everything once with every tool, one tool right after the other, so that whatever else the machine does
hits all of them alike; which tool goes first changes from round to round.

Nothing is removed before the end: ext4 does not use a removed file's inode again for a minute or more, and passes by
each of them whenever it makes a file. After some thousand removed files a build takes up to half a second longer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import workloads
from bench.scenarios import OFF_THE_CLOCK, Row, Scenario, emptied
from bench.tools import Tool
from bench.workloads import Sizes

PLAIN = "plain"
"""In place of a tool's name: the work without any."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed build. round: from 0. tool: or PLAIN."""

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
            place = emptied(directory / f"round-{number}" / its_rows[0].key)
            for timing in scenario(place, sizes, number):
                works = {tool.name: partial(timing.work, tool) for tool in order}
                for name, work in _with_plain(works, timing.plain, number).items():
                    os.sync()  # nobody pays for what was written before
                    begin = time.perf_counter()
                    work()
                    sample = Sample(timing.row.key, name, number, time.perf_counter() - begin)
                    if timing.row is not OFF_THE_CLOCK:
                        samples.append(sample)
                        progress(sample)
    return [sample for sample in samples if sample.row in wanted]


def _with_plain(
    works: Mapping[str, Callable[[], None]], plain: Callable[[], None] | None, number: int
) -> dict[str, Callable[[], None]]:
    """What the tools do, in their order, and the work without one among it, each round at another place."""
    items = list(works.items())
    if plain is not None:
        items.insert(number % (len(items) + 1), (PLAIN, plain))
    return dict(items)
