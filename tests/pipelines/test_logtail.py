"""The end of what a failed step printed, found from behind."""

from __future__ import annotations

import pytest

from pipelines.logs.lines import LogLine
from pipelines.logs.tail import last_output


class Log:
    """Lines that are read at most ``at_once`` at a time, as where they are long. asked: how often."""

    def __init__(self, lines: list[LogLine], at_once: int = 1000) -> None:
        self.lines, self.at_once, self.asked = lines, at_once, 0

    def __call__(self, first: int, limit: int) -> list[LogLine]:
        self.asked += 1
        return [line for line in self.lines if line.n >= first][: min(limit, self.at_once)]


def printed(steps: list[int]) -> list[LogLine]:
    return [LogLine(number, "output", f"line {number}", 0.0, step=step) for number, step in enumerate(steps, 1)]


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_the_last_lines_are_those_of_the_step_alone(at_once: int) -> None:
    log = Log(printed([1, 2] * 300), at_once)
    told = last_output(log, step=1, first_line=1, last_line=600)
    assert told == [f"line {number}" for number in range(571, 600, 2)]


def test_lines_that_a_noisy_step_beside_it_pushed_apart_are_found() -> None:
    log = Log(printed([1] * 20 + [2] * 700))
    assert last_output(log, step=1, first_line=1, last_line=720) == [f"line {number}" for number in range(6, 21)]


def test_no_more_is_looked_at_than_there_is_time_for() -> None:
    log = Log(printed([1] * 20 + [2] * 50_000))
    assert last_output(log, step=1, first_line=1, last_line=50_020) == []
    assert log.asked == 5


def test_lines_before_the_step_and_a_step_that_the_log_does_not_know_tell_nothing() -> None:
    log = Log(printed([1] * 20))
    assert last_output(log, step=1, first_line=19, last_line=20) == ["line 19", "line 20"]
    assert last_output(log, step=1, first_line=0, last_line=0) == []


def test_of_a_long_line_there_is_its_end() -> None:
    log = Log([LogLine(1, "output", "x" * 60_000 + "end", 0.0, step=1)])
    (line,) = last_output(log, step=1, first_line=1, last_line=1)
    assert (len(line), line[-4:]) == (2000, "xend")
