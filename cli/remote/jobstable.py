"""The jobs of a run as a table, with why each waits or ended as it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from cli.listing import Row
from cli.progress.text import cell_text, cut
from cli.remote.rows import JOBS, job_row
from cli.table import PLAIN, Looks

_STEP_CELLS: Final = 40


def jobs_table(
    jobs: Sequence[dict[str, Any]],
    now: float,
    looks: Looks = PLAIN,
    steps: Mapping[int, Sequence[dict[str, Any]]] = MappingProxyType({}),
) -> str:
    """Jobs as a table. Ends without a newline.

    now: seconds since the epoch. looks: where it is printed. steps: those that stand below their jobs, by the places
    of these.
    """
    rows = []
    for job in jobs:
        rows.append(job_row(job, now))
        rows += [_step_row(step, now) for step in steps.get(job["place"], ())]
    return JOBS.lines(rows, looks=looks).removesuffix("\n")


def _step_row(step: dict[str, Any], now: float) -> Row:
    begun = step["started_at"]
    seconds = step["duration_s"] or (0.0 if begun is None else max(0.0, now - begun))
    why = (step["reason"] or "").partition("\n")[0]
    named = f"└ {cut(cell_text(step['name']), _STEP_CELLS)}"
    return {
        **dict.fromkeys(JOBS.headers, ""), "Name": named, "State": step["state"], "Took": f"{seconds:.1f}s", "Why": why,
    }  # fmt: skip
