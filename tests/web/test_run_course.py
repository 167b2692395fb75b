"""What a run changed for its branch: broke it, mended it, or is one more that fails."""

from __future__ import annotations

import pytest

from pipelines.model import AnyRunState, Trigger
from pipelines.runs.strips import Brief, Strip
from web.pages.run_panes import course


def strip(*states: AnyRunState) -> Strip:
    """Runs 1 and on."""
    briefs = (Brief(at, "shop", state, 0.0, 1.0, 0.0, Trigger()) for at, state in enumerate(states, 1))
    return Strip(tuple(briefs))


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (("succeeded", "failed"), "broke main: #1 was green"),
        (("succeeded", "cancelled", "error", "failed"), "broke main: #1 was green"),
        (("succeeded", "failed", "failed", "failed"), "main fails since #2"),
        (("failed",) * 3, "main fails since #1"),
        (("failed",) * 20, "main fails since #1 or before"),
        (("failed", "warnings"), "mended main: #1 had failed"),
        (("succeeded", "succeeded"), ""),
        (("failed",), ""),
        (("succeeded", "running"), ""),
        (("succeeded", "cancelled"), ""),
    ],
)
def test_course(states: tuple[AnyRunState, ...], told: str) -> None:
    assert course(strip(*states), len(states), "main") == told


def test_course_of_an_older_run_is_by_those_before_it() -> None:
    assert course(strip("succeeded", "failed", "succeeded"), 2, "main") == "broke main: #1 was green"
    assert course(strip("succeeded", "failed", "succeeded"), 99, "main") == ""
