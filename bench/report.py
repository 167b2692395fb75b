"""Samples to medians and ratios, as a table for people and a document for machines."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.rounds import PLAIN, Sample
from bench.scenarios import ROWS, Row
from bench.workloads import Sizes

_OURS = "shiplap"


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30),
        "python": platform.python_version(),
    }


def titles(sizes: Sizes) -> dict[str, str]:
    """The words of the sizes that stand in rows' titles."""
    return {
        **{name: f"{value:,}" if isinstance(value, int) else value for name, value in asdict(sizes).items()},
        "megabytes": f"{sizes.total_bytes // 1_000_000}",
        "big": f"{sizes.big_bytes // 1_000_000}",
    }


def summarize(samples: Sequence[Sample], rows: Sequence[Row], words: Mapping[str, str]) -> list[dict[str, Any]]:
    """One entry per row that was measured, in the table's order.

    median_s, min_s, max_s: seconds by tool; where the work was done without a tool as well, plain_s is the median of
    that and was taken off: what is left may be below 0. ratio: Shiplap's time over the peer's, by peer; the median of
    the ratios within each round, because the two times of one round were taken one right after the other. What is left
    of two times of which the larger part was taken off differs too much for that: there it is the medians' ratio.
    """
    summary = []
    for row in rows:
        by_tool: dict[str, dict[int, float]] = {}
        for sample in samples:
            if sample.row == row.key:
                by_tool.setdefault(sample.tool, {})[sample.round] = sample.seconds
        plain = by_tool.pop(PLAIN, None)
        if not by_tool:
            continue
        plain_s = statistics.median(plain.values()) if plain else 0.0
        by_tool = {
            tool: {number: seconds - plain_s for number, seconds in rounds.items()} for tool, rounds in by_tool.items()
        }
        ours = by_tool.get(_OURS, {})
        ratios = {
            tool: statistics.median(ours.values()) / statistics.median(rounds.values())
            if plain
            else statistics.median(ours[number] / seconds for number, seconds in rounds.items())
            for tool, rounds in by_tool.items()
            if tool != _OURS and ours
        }
        summary.append(
            {
                "row": row.key,
                "title": row.title.format_map(words),
                "median_s": {tool: statistics.median(rounds.values()) for tool, rounds in by_tool.items()},
                "min_s": {tool: min(rounds.values()) for tool, rounds in by_tool.items()},
                "max_s": {tool: max(rounds.values()) for tool, rounds in by_tool.items()},
                "plain_s": plain_s,
                "ratio": ratios,
                "budget": row.budget,
                "peer": row.peer,
                "within_budget": ratios[row.peer] <= row.budget if row.peer in ratios else None,
            }
        )
    return summary


def document(
    samples: Sequence[Sample], *, sizes: Sizes, runs: int, versions: Mapping[str, str], finished_at: str
) -> dict[str, Any]:
    """Everything there is to know about one run of the bench, ready for JSON."""
    return {
        "finished_at": finished_at,
        "machine": machine(),
        "versions": dict(versions),
        "sizes": asdict(sizes),
        "runs": runs,
        "rows": summarize(samples, ROWS, titles(sizes)),
        "samples": [asdict(sample) for sample in samples],
    }


def table(summary: Sequence[Mapping[str, Any]], tools: Sequence[str]) -> str:
    """A Markdown table: medians with their range, then ratios to each peer, then the budget."""
    peers = [tool for tool in tools if tool != _OURS]
    head = ["work", *(f"{tool}, s (min–max)" for tool in tools), *(f"× {peer}" for peer in peers)]
    judged = any(entry["within_budget"] is not None for entry in summary)
    if judged:
        head.append("budget")
    lines = [head, ["---"] * len(head)]
    for entry in summary:
        cells = [f"{entry['title']} of {entry['plain_s']:.2f} s" if entry["plain_s"] else entry["title"]]
        for tool in tools:
            low, high = entry["min_s"][tool], entry["max_s"][tool]
            cells.append(f"{entry['median_s'][tool]:.3f} ({low:.3f}–{high:.3f})")
        cells += [f"{entry['ratio'][peer]:.2f}" for peer in peers]
        if judged:
            verdict = {True: "met", False: "MISSED", None: "not measured"}[entry["within_budget"]]
            cells.append(f"{entry['budget']:.2f} × {entry['peer']}: {verdict}")
        lines.append(cells)
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)
