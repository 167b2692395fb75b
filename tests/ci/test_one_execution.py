"""Worker and command line do a job by the same function: neither has a way of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[2]
_ONE = "ci.execution.job.execute"
_LOOKING = "ci.execution.job.look"
_OF_A_JOB = ("ci.execution", "ci.workspace", "ci.reuse")
"""Streets that say how a job is done."""


def taken(module: Path) -> Iterator[str]:
    """What a module imports, with dots."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("room", ["cli", "worker", "pipelines"])
def test_room_knows_one_function_that_does_a_job(room: str) -> None:
    found = {name for path in (_CHECKOUT / room).rglob("*.py") for name in taken(path) if name.startswith(_OF_A_JOB)}
    assert found <= {_ONE, _LOOKING}


def test_command_line_hands_it_to_the_run() -> None:
    assert _ONE in set(taken(_CHECKOUT / "cli" / "jobs" / "here.py"))
    runner = set(taken(_CHECKOUT / "ci" / "local" / "runner.py"))
    assert not [name for name in runner if name.startswith(_OF_A_JOB)]
    assert "ci.graph.advance" in runner
