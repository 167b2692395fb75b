"""Marks and words for jobs."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

import web
from pipelines.model import JobState
from pipelines.runs.jobs import JobView, Mark, Marks
from web.pages.graph import Box
from web.pages.jobwords import marks_in_words, shown_box, shown_job

_ICONS = Path(web.__file__).parent / "static" / "icons.svg"


def job(state: JobState, reason: str = "", *, place: int = 2, attempt: int = 1, **members: object) -> JobView:
    return JobView(1, place, "j", "job", state, reason, attempt, "w", 0.0, None, None, 0, **members)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shown", "mark", "word", "reason"),
    [
        (job("failed", "exit code 3: no\nmore"), "failed", "failed", "exit code 3: no"),
        (job("failed", "exit code 3", may_fail=True), "warnings", "failed, which it may", "exit code 3"),
        (job("succeeded", attempt=2, is_flaky=True), "warnings", "flaky",
         "it succeeded at attempt 2, after it had failed"),
        (job("reused", reused_from="7"), "reused", "reused", "it has the result of run 7"),
        (job("running", attempt=2), "running", "running", "attempt 2"),
        (job("waiting", "waits for a"), "waiting", "waiting", "waits for a"),
    ],
)  # fmt: skip
def test_job_has_a_mark_a_word_and_a_reason(shown: JobView, mark: str, word: str, reason: str) -> None:
    told = shown_job(shown)
    assert (told.mark, told.word, told.reason) == (mark, word, reason)


def test_matrix_is_as_its_worst_job_and_says_how_many_are_how() -> None:
    box = Box("m × 3", "m × 3", (0, 1, 2), "m", True, 0, 0.0, 0.0, 80.0)
    shown = shown_box(box, [job("succeeded"), job("failed", place=3), job("succeeded", place=4)], 3)
    assert (shown.mark, shown.words) == ("failed", "2 succeeded, 1 failed")
    assert (shown.place, shown.is_chosen, shown.is_dead) == (0, True, False)
    assert shown_box(box, [job("skipped"), job("cancelled"), job("skipped")], 9).is_dead


@pytest.mark.parametrize("state", get_args(JobState))
def test_every_state_has_an_icon_and_its_place_in_a_matrix(state: JobState) -> None:
    box = Box("m × 2", "m × 2", (0, 1), "m", True, 0, 0.0, 0.0, 80.0)
    mark = shown_box(box, [job("reused", reused_from="1"), job(state)], 0).mark
    assert f'id="s-{mark}"' in _ICONS.read_text()


def test_jobs_of_a_list_in_words() -> None:
    marks = Marks((Mark("a", "succeeded", False),), {"succeeded": 1})
    assert marks_in_words(marks) == "1 job: 1 succeeded"
    assert marks_in_words(marks._replace(counts={"failed": 2, "skipped": 1})) == "3 jobs: 2 failed, 1 skipped"
