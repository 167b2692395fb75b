"""Why a job waits, in words."""

from __future__ import annotations

import pytest

from ci.graph import JobNode
from ci.reasons import why_waiting


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "waits for j0"),
        (2, "waits for j0 and j1"),
        (4, "waits for j0, j1, j2 and j3"),
        (9, "waits for j0, j1, j2 and 6 more"),
    ],
)
def test_few_are_named_and_many_are_counted(count: int, text: str) -> None:
    needed = [JobNode(f"j{index}") for index in range(count)]
    job = JobNode("x", needs=tuple(node.name for node in needed))
    assert why_waiting(job, [*needed, job]) == text


def test_what_has_ended_is_not_waited_for() -> None:
    job = JobNode("x", needs=("a", "b"))
    assert why_waiting(job, [JobNode("a", "succeeded"), JobNode("b", "running"), job]) == "waits for b"


def test_matrix_that_has_as_many_going_as_it_may() -> None:
    others = [JobNode(f"m ({value})", state, matrix="m") for value, state in (("a", "running"), ("b", "queued"))]  # type: ignore[arg-type]
    job = JobNode("m (c)", matrix="m", max_parallel=2)
    assert why_waiting(job, [*others, job]) == "m has 2 jobs going, and may have 2"
