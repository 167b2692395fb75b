"""Figures: one measured thing each, as a line of a table for people and a row of a document for machines."""

from __future__ import annotations

import datetime
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import report
from bench.tools import ToolError


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    budget: what the value must stay under; None where there is no bound.
    at_least: the budget is what it must reach instead.
    """

    key: str
    title: str
    value: float
    unit: str
    samples: list[float]
    budget: float | None = None
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the value keeps to its budget; where there is none, it does."""
        if self.budget is None:
            return True
        return self.value >= self.budget if self.at_least else self.value < self.budget


def figure(key: str, title: str, samples: list[float], budget: float | None, unit: str = "s") -> Figure:
    """The median of the samples as a figure, which is told at once."""
    print(f"{title}: {statistics.median(samples):.3f} {unit}".rstrip(), file=sys.stderr, flush=True)
    return Figure(key, title, statistics.median(samples), unit, samples, budget)


def measure(figures_of: Callable[[Path], Sequence[Figure]], *, below: Path, prefix: str, output: Path | None) -> int:
    """Measure in a directory that is removed, print the table, write the document. Returns the exit code.

    figures_of: measures, given the directory. prefix: of the directory's name, which is in ``below``.
    """
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=below))
    try:
        figures = figures_of(directory)
    except ToolError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print("\n" + table(figures))
    if output:
        write(figures, output)
    return 0


def table(figures: Sequence[Figure]) -> str:
    """With the spread of the samples, and whether each bound is met."""
    width = max(len(figure.title) for figure in figures)
    lines = []
    for figure in figures:
        spread = f"{min(figure.samples):.3f} … {max(figure.samples):.3f}" if len(figure.samples) > 1 else ""
        verdict = ""
        if figure.budget is not None:
            bound = "at least" if figure.at_least else "under"
            verdict = f"{bound} {figure.budget:.3f}: {'met' if figure.is_met else 'MISSED'}"
        lines.append(f"{figure.title:<{width}}  {figure.value:8.3f} {figure.unit:<5} {spread:<20} {verdict}".rstrip())
    return "\n".join(lines)


def write(figures: Sequence[Figure], output: Path) -> None:
    """Write the document, with the machine and the time."""
    finished_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    document = {
        "finished_at": finished_at,
        "machine": report.machine(),
        "rows": [asdict(figure) for figure in figures],
    }
    output.write_text(json.dumps(document, indent=1) + "\n")
