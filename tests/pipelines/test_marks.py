"""What stands out in a log: errors, warnings, folds, and the step of each line; each line is looked at once."""

from __future__ import annotations

import pytest

from core.events import BuildPlanned, Event, StepFinished, StepInfo, StepOutput, StepStarted
from core.masking import Masker
from pipelines.logs.lines import LineMaker, LogLine, encode_line
from pipelines.logs.marks import MOST, Found, Marker

ERRORS = (
    "error: cannot find a", "src/main.c:3:5: error: 'x' undeclared", "error[E0308]: mismatched types",
    "npm error code 1", "npm ERR! code 1", "fatal: not a git repository", "E       AssertionError: assert 3",
    "FAILED tests/test_a.py::test_b", "--- FAIL: TestTide (0.01s)", "Traceback (most recent call last):",
    "ValueError: no", "a.b.TideError: low", "panic: runtime error", "12:00:01 ERROR tide low", "[ERROR] tide low",
    "::error file=a.c::no", "##[error]no", "\x1b[31mError: \x1b[0mno", "10 %\rerror: no",
)  # fmt: skip
WARNINGS = (
    "warning: unused", "a.c:1:1: warning: unused", "npm warn deprecated", "WARNING  tide low", "[WARN] low",
    "::warning::x",
)  # fmt: skip
NEITHER = (
    "0 errors", "no error here", "test_error_page PASSED", "errors.py", "terror: a film", "the word WARNINGS",
    "-Werror=all", "checking for strerror... yes", "mirror: ok",
)  # fmt: skip


def looked_at(*texts: str) -> Found:
    """What stands out in the output of one step."""
    marker = Marker()
    for number, text in enumerate(texts, 1):
        marker.look(number, encode_line(LogLine(number, "output", text, 0.0, 0, 1)))
    return marker.found()


@pytest.mark.parametrize("text", ERRORS)
def test_errors(text: str) -> None:
    assert (looked_at(text).errors, looked_at(text).warnings) == ([1], [])


@pytest.mark.parametrize("text", WARNINGS)
def test_warnings(text: str) -> None:
    assert (looked_at(text).errors, looked_at(text).warnings) == ([], [1])


@pytest.mark.parametrize("text", NEITHER)
def test_neither(text: str) -> None:
    assert (looked_at(text).errors, looked_at(text).warnings) == ([], [])


def test_folds() -> None:
    found = looked_at(
        "::group::a", "x", "::endgroup::", "y", "--- b", "error: z", "+++ c", "~~~ d", "##[group]e", "##[endgroup]",
        "---", "---- not", "--- PASS: TestTide", "--- a/x.c\t2026", "+++ b/x.c\t2026", "text", "--- f",
    )  # fmt: skip
    assert [tuple(fold) for fold in found.folds] == [
        (1, 3, "closed", False), (5, 6, "closed", True), (7, 7, "open", False), (8, 8, "soft", False),
        (9, 10, "closed", False), (17, 0, "closed", False),
    ]  # fmt: skip


def test_folds_of_steps_that_mix_their_lines_are_each_their_own() -> None:
    maker, marker = LineMaker(1, Masker(), lambda: 9.0), Marker()
    events: list[Event] = [
        BuildPlanned((StepInfo(0, "a", "", 1), StepInfo(1, "b", "", 2))), StepStarted(0, 5.0), StepStarted(1, 6.0),
        StepOutput(0, 1, b"--- one\n", 7.0), StepOutput(1, 1, b"--- two\n", 7.0), StepOutput(0, 1, b"+++ three\n", 7.0),
        StepFinished(0, "done", 1.0, 8.0, None), StepFinished(1, "failed", 1.0, 8.0, "exit code 1"),
    ]  # fmt: skip
    for line in [line for event in events for line in maker.lines(event)]:
        marker.look(line.n, encode_line(line))
    found = marker.found()
    assert [tuple(fold) for fold in found.folds] == [
        (4, 5, "closed", False), (5, 7, "closed", True), (6, 6, "open", False),
    ]  # fmt: skip
    assert found.spans == [(-1, 1), (0, 1), (1, 1), (0, 1), (1, 1), (0, 2), (1, 1)]
    assert (found.errors, found.starts) == ([8], {0: 5.0, 1: 6.0})
    assert marker.found(6).spans == [(0, 1), (1, 1)]
    assert [fold.first for fold in marker.found(6).folds] == [5]


def test_no_log_makes_the_answer_as_long_as_it_is() -> None:
    found = looked_at(*["error: x", "--- y"] * (MOST + 5))
    assert (len(found.errors), found.error_count, len(found.folds)) == (MOST, MOST + 5, MOST)
