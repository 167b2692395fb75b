"""A keeper's loop."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from containers.keeper.loop import Loop


def test_a_moment_that_is_years_away_stops_nothing() -> None:
    """As after ``stop -t 2147483647``: epoll takes no such time."""
    loop = Loop()
    rung: list[str] = []
    loop.later(2_147_483_647.0, lambda: rung.append("far"))
    ours, theirs = os.pipe()
    try:
        loop.watch(ours, lambda: rung.append(os.read(ours, 1).decode()))
        os.write(theirs, b"x")
        loop.step()
        loop.unwatch(ours)
    finally:
        os.close(ours)
        os.close(theirs)
        os.close(loop.fileno())
    assert rung == ["x"]


def test_handler_that_raises_is_told_and_asked_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    loop = Loop()
    failed: list[str] = []

    def fails() -> NoReturn:
        raise ValueError("no such thing")

    ours, theirs = os.pipe()
    try:
        loop.watch(ours, fails, lambda: failed.append("told"))
        os.write(theirs, b"x")
        loop.step()
        loop.later(0.0, lambda: None)  # nothing else would end the next step
        loop.step()
    finally:
        os.close(ours)
        os.close(theirs)
        os.close(loop.fileno())
    assert failed == ["told"]
    told = capsys.readouterr().err
    assert told.startswith("ValueError: no such thing (")
    assert "test_loop.py:" in told
