"""Why jobs would run, without running them: who is asked, with what, and who cannot be."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from ci.ends import JobOutcome
from ci.local.looking import Answer, ask, why_always
from ci.model import Build, Job, Output
from ci.outcome import Earlier, Given, JobTools
from ci.planning import PlannedJob
from core.cancellation import asking
from core.digests import DiffID
from core.events import MissReason

LAYER = DiffID("sha256:" + "a" * 64)
CHANGED = (MissReason("changed", "src/a"),)


def planned(name: str, needs: str = "", **members: Any) -> PlannedJob:
    return PlannedJob(name, name, Job(**{"run": ("true",), "inputs": ("src",), **members}), tuple(needs.split()), {})


def tools(cancelled: threading.Event) -> JobTools:
    return JobTools(cast(Any, None), cast(Any, None), cancelled=cancelled)


class Known:
    """A ``look`` that knows some results. asked: of each job what it was given."""

    def __init__(self, **results: JobOutcome) -> None:
        self._results = results
        self.asked: dict[str, Given] = {}

    def __call__(self, planned: PlannedJob, given: Given, tools: JobTools) -> Earlier | None:
        self.asked[planned.name] = given
        found = self._results.get(planned.name)
        return Earlier(found) if found is not None else Earlier(None, CHANGED)


def test_job_is_asked_of_with_what_the_results_before_it_leave() -> None:
    made = JobOutcome("reused", outputs=LAYER, exports={"V": "1"}, reused_from="local")
    known = Known(make=made)
    jobs = [planned("take", "make"), planned("make", outputs=(Output("out"),))]
    assert ask(jobs, Given(), tools, known) == [Answer("make", made), Answer("take", changes=CHANGED)]
    assert known.asked["take"].outputs == (("make", LAYER),)
    assert known.asked["take"].exports == {"make": {"V": "1"}}


def test_nobody_knows_what_a_job_would_leave_that_would_run() -> None:
    known = Known(take=JobOutcome("reused"))
    jobs = [
        planned("make", outputs=(Output("out"),)), planned("take", "make"), planned("lint"), planned("free", "lint"),
        planned("name", exports=("V",)), planned("use", "name"), planned("far", "take"),
    ]  # fmt: skip
    answers = {answer.job: answer for answer in ask(jobs, Given(), tools, known)}
    assert answers["take"] == Answer("take", waits_for="make")
    assert answers["far"] == Answer("far", waits_for="make")
    assert answers["use"] == Answer("use", waits_for="name")
    assert answers["free"] == Answer("free", changes=CHANGED)  # lint would run, and leaves nothing
    assert set(known.asked) == {"make", "lint", "free", "name"}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, ""), ({"inputs": None}, "inputs"), ({"reuse": False}, "reuse"), ({"reuse": True}, ""),
        ({"run": None, "build": Build()}, "build"), ({"inputs": None, "reuse": True}, "inputs"),
    ],
)  # fmt: skip
def test_job_that_always_runs_is_not_asked_of(members: dict[str, Any], expected: str) -> None:
    known = Known()
    (answer,) = ask([planned("a", **members)], Given(), tools, known)
    assert answer.always == why_always(planned("a", **members)) == expected
    assert bool(known.asked) is not bool(expected)


def test_it_can_be_ended() -> None:
    def ended() -> None:
        raise KeyError("ended")

    with pytest.raises(KeyError, match="ended"), asking(ended):
        ask([planned("a")], Given(), tools, Known())
