"""Figures: one measured thing each, as a line of a table for people and a row of a document for machines."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import report


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. budget: what value must stay under; None where there is no bound."""

    key: str
    title: str
    value: float
    unit: str
    samples: list[float]
    budget: float | None = None


def table(figures: Sequence[Figure]) -> str:
    """With the spread of the samples, and whether each bound is met."""
    width = max(len(figure.title) for figure in figures)
    lines = []
    for figure in figures:
        spread = f"{min(figure.samples):.3f} … {max(figure.samples):.3f}" if len(figure.samples) > 1 else ""
        verdict = ""
        if figure.budget is not None:
            verdict = f"under {figure.budget:.3f}: {'met' if figure.value < figure.budget else 'MISSED'}"
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
