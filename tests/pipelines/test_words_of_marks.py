"""The words of marks and endings, and the order of shares, without a database."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from pipelines import endings, jsonlogs
from pipelines.runs.choosing import _subsets
from pipelines.runs.shares import Turn, in_turn
from pipelines.statuses import wording


def test_endings_in_words() -> None:
    assert endings.why_cancelled("ana", 7) == "superseded by #7"
    assert endings.why_cancelled("ana", 0) == "cancelled by ana"
    assert endings.why_cancelled("", 0) == "cancelled"
    assert endings.ended("succeeded", "") == "succeeded"
    assert endings.ended("failed", "why") == "failed: why"
    assert endings.ended("cancelled", "cancelled by ana") == "cancelled by ana"
    assert endings.repeated(0, "ana") == ""
    assert endings.repeated(1, "") == "retry of #1"
    assert endings.repeated(1, "ana") == "retry of #1 by ana"


def test_texts_of_marks_fit_every_forge() -> None:
    assert wording.cut("x" * 140) == "x" * 140
    assert wording.cut("x" * 141) == "x" * 139 + "…"
    assert wording.cut("abc", 2) == "a…"
    assert wording.one_line(" a\n\tb\x1b[31m\u202ec  d ") == "a b [31m c d"


def test_reason_has_the_last_line_as_far_as_there_is_room() -> None:
    assert wording.with_line("failed", "") == "failed"
    assert wording.with_line("failed", "line") == "failed: line"
    line = "l" * 60
    assert wording.with_line("r" * 78, line) == f"{'r' * 78}: {line}"
    assert wording.with_line("r" * 79, line) == f"{'r' * 77}…: {line}"
    long = "l" * 200
    assert wording.with_line("r" * 60, long) == f"{'r' * 60}: {long}"
    assert wording.with_line("r" * 61, long) == f"{'r' * 59}…: {long}"


def order(waiting: list[tuple[int, str, int]], going: dict[str, int], **weights: int) -> list[int]:
    """waiting: number, project and priority."""
    known = {project: weights.get(project, 1) for _, project, _ in waiting}
    turns = (Turn(number, number, project, priority) for number, project, priority in waiting)
    return [turn.number for turn in in_turn(turns, going, known)]


@pytest.mark.parametrize(
    ("waiting", "going", "weights", "found"),
    [
        ([(1, "a", 0), (2, "a", 0), (3, "b", 0)], {}, {}, [1, 3, 2]),
        ([(1, "a", 0), (2, "a", 0), (3, "b", 0)], {"a": 1}, {}, [3, 1, 2]),
        ([(1, "a", 0), (2, "a", 0), (3, "b", 0)], {"b": 2}, {}, [1, 2, 3]),
        ([(1, "a", 0), (2, "b", 0), (3, "b", 0), (4, "b", 0)], {}, {"b": 2}, [1, 2, 3, 4]),
        ([(1, "a", 0), (2, "a", 0), (3, "b", 0), (4, "b", 0), (5, "b", 0)], {}, {"b": 2}, [1, 3, 4, 2, 5]),
        ([(5, "a", 9), (1, "a", 0), (2, "b", 0)], {}, {}, [5, 2, 1]),
        ([], {}, {}, []),
    ],
)
def test_shares_are_fair(waiting: Any, going: dict[str, int], weights: dict[str, int], found: list[int]) -> None:
    assert order(waiting, going, **weights) == found


def test_worker_serves_every_set_of_its_labels() -> None:
    assert _subsets([]) == [()]
    assert _subsets(["b", "a"]) == [(), ("a",), ("b",), ("a", "b")]


def record(message: str, level: int = logging.INFO, **more: Any) -> logging.LogRecord:
    found = logging.LogRecord("a.b", level, __file__, 1, message, (), None)
    found.created, found.msecs, found.process = 1.005, 5.9, 7
    for name, value in more.items():
        setattr(found, name, value)
    return found


def test_lines_for_programs() -> None:
    plain = json.loads(jsonlogs.JsonFormatter().format(record("hello")))
    assert plain == {
        "time": "1970-01-01T00:00:01.005Z", "level": "info", "logger": "a.b", "process": 7, "message": "hello",
    }  # fmt: skip
    more = json.loads(jsonlogs.JsonFormatter().format(record("run 12: x", shiplap={"a": 1})))
    assert (more["run"], more["a"]) == (12, 1)
    with jsonlogs.working_on(5):
        assert json.loads(jsonlogs.JsonFormatter().format(record("x")))["run"] == 5
        assert json.loads(jsonlogs.JsonFormatter().format(record("run 6: x")))["run"] == 6
    assert "run" not in json.loads(jsonlogs.JsonFormatter().format(record("a run 6: x")))


@pytest.mark.parametrize(
    ("level", "word"), [(logging.INFO, ""), (logging.WARNING, "warning: "), (logging.ERROR, "error: ")]
)
def test_lines_for_people(level: int, word: str) -> None:
    assert jsonlogs.PlainFormatter().format(record("hello", level)).endswith(f" {word}hello")


def test_chat_of_requests_is_for_programs() -> None:
    person = jsonlogs.configuration({"web.request": {"propagate": False}}, at_terminal=True)
    assert person["loggers"]["web.request"] == {"propagate": False, "level": "WARNING"}
    assert person["formatters"]["chosen"]["()"] is jsonlogs.PlainFormatter
    program = jsonlogs.configuration({"web.request": {"propagate": False}}, at_terminal=False)
    assert program["loggers"]["web.request"] == {"propagate": False}
    assert program["loggers"]["celery"] == {"level": "WARNING"}
    assert program["disable_existing_loggers"] is False
    assert program["formatters"]["chosen"]["()"] is jsonlogs.JsonFormatter
