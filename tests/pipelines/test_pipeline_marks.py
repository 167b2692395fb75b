"""Marks of pipelines at a commit: whose run says what, and that no failure becomes a success."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select

from ci.graph import JobNode
from pipelines.model import HookSettings, Project, Run, RunRequest, Trigger
from pipelines.runs.graphs import RunPlan
from pipelines.runs.marks import of_job
from pipelines.runs.pipelines import PlannedRun, PlannedWork
from pipelines.schema import statuses
from pipelines.service import Service
from pipelines.statuses.outbox import list_statuses
from tests.pipelines.test_pipelines import COMMIT, SOURCE, TRIGGER, claimed, end, node, write

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
"""What is asked of the database is asked of both in test_pipelines."""

PULL = Trigger("pull_request", "ada", branch="topic", commit=COMMIT, pull_request=3, target="main")
OTHERWISE = "the push of its branch runs it"


@pytest.fixture(autouse=True)
def project(service: Service) -> None:
    service.projects.put(Project("app", hook=HookSettings(forge="gitea", repository=SOURCE.url)))


def begin(service: Service, *nodes: JobNode, trigger: Trigger = TRIGGER, error: str = "", **plan: Any) -> Run:
    number = service.runs.submit(RunRequest(SOURCE, "app"), trigger).number
    about = RunPlan(".shiplap.yml", COMMIT, timeout_s=60.0, **plan)
    found = PlannedRun("main", about, tuple(PlannedWork(each, {}) for each in nodes), error)
    write(service, claimed(service), ("main", lambda _: found))
    return service.runs.get(number)


def marks(service: Service) -> dict[str, tuple[str, str]]:
    """By name, the newest mark's state and text; without those that builds had."""
    found = {row.context: (row.state, row.description) for row in reversed(list_statuses(service.database, "app"))}
    return {context: mark for context, mark in found.items() if "/main" in context}


def links(service: Service) -> dict[str, int]:
    with service.database.read() as connection:
        rows = connection.execute(select(statuses.c.context, statuses.c.job).order_by(statuses.c.id))
        return {row.context: row.job for row in rows if "/main" in row.context}


@pytest.mark.parametrize(
    "trigger",
    [
        TRIGGER,
        replace(PULL, context="shiplap/pr"),
        Trigger("tag", tag="v1", commit=COMMIT, context="shiplap/tag"),
        PULL,
    ],
)
def test_mark_of_a_pipeline_is_called_the_same_for_every_event(service: Service, trigger: Trigger) -> None:
    begin(service, node("a"), node("b"), trigger=trigger)
    assert marks(service) == {"shiplap/main": ("running", "2 jobs run")}
    end(service, claimed(service))
    end(service, claimed(service))
    assert marks(service) == {"shiplap/main": ("success", "succeeded: 2 jobs")}


def test_mark_of_a_failure_names_and_links_to_the_job(service: Service) -> None:
    begin(service, node("a"), node("b"))
    end(service, claimed(service))
    end(service, claimed(service), "failed", message="exit code 2\nmore")
    assert marks(service) == {"shiplap/main": ("failure", "b: exit code 2")}
    assert links(service) == {"shiplap/main": 3}


def test_mark_of_a_wrong_file_links_to_what_planned_it(service: Service) -> None:
    begin(service, error=".shiplap.yml:1:1: error: no jobs\n  ^")
    assert marks(service) == {"shiplap/main": ("failure", ".shiplap.yml:1:1: error: no jobs")}
    assert links(service) == {"shiplap/main": 1}


def test_each_job_has_a_mark_where_the_pipeline_wants_it(service: Service) -> None:
    begin(
        service, node("a"), node("b", "a"), node("c", may_fail=True), node("tell", "c", after="failure"),
        statuses="jobs", left_out={"d": "it is not for push"},
    )  # fmt: skip
    assert marks(service) == {
        "shiplap/main": ("running", "4 jobs run"),
        "shiplap/main/a": ("pending", "waits for a worker"),
        "shiplap/main/b": ("pending", "waits for other jobs"),
        "shiplap/main/c": ("pending", "waits for a worker"),
        "shiplap/main/tell": ("pending", "waits for other jobs"),
        "shiplap/main/d": ("success", "left out: it is not for push"),
    }
    first = claimed(service)
    assert marks(service)["shiplap/main/a"] == ("running", "runs")
    end(service, first, "failed", message="exit code 1")
    end(service, claimed(service), "failed", message="exit code 2")
    assert marks(service) == {
        "shiplap/main": ("failure", "a: exit code 1"),
        "shiplap/main/a": ("failure", "exit code 1"),
        "shiplap/main/b": ("cancelled", "skipped: a, which has to succeed before it, failed"),
        "shiplap/main/c": ("success", "failed, which is allowed: exit code 2"),
        "shiplap/main/tell": ("success", "skipped: nothing before it failed"),
        "shiplap/main/d": ("success", "left out: it is not for push"),
    }
    assert links(service)["shiplap/main/c"] == 4
    contexts = [row.context for row in list_statuses(service.database, "app") if row.context == "shiplap/main/b"]
    assert len(contexts) == 2, "no state is told twice"


def test_what_has_nothing_to_do_says_so_and_keeps_nobody_waiting(service: Service) -> None:
    begin(service, reason="no file has changed", statuses="jobs", left_out={"a": "no file has changed"})
    assert marks(service) == {
        "shiplap/main": ("success", "no file has changed"),
        "shiplap/main/a": ("success", "left out: no file has changed"),
    }


@pytest.mark.parametrize("plan", [{"is_run_otherwise": True, "reason": OTHERWISE}, {"reason": "not for tag v1"}])
def test_run_that_does_nothing_never_makes_a_failure_a_success(service: Service, plan: dict[str, Any]) -> None:
    begin(service, node("a"), statuses="jobs")
    end(service, claimed(service), "failed", message="no")
    before = marks(service)
    assert {state for state, _ in before.values()} == {"failure"}
    begin(service, trigger=PULL, statuses="jobs", left_out={"a": "x"}, **plan)
    assert marks(service) == before


def test_no_success_comes_before_what_another_event_runs(service: Service) -> None:
    begin(service, trigger=PULL, is_run_otherwise=True, reason=OTHERWISE, statuses="jobs", left_out={"a": OTHERWISE})
    assert marks(service) == {}
    begin(service, node("a"))
    assert marks(service) == {"shiplap/main": ("running", "1 job run")}


def test_warnings_are_a_success_that_says_so(service: Service) -> None:
    begin(service, node("a", may_fail=True))
    end(service, claimed(service), "failed", message="no")
    assert marks(service) == {"shiplap/main": ("success", "a failed, which is allowed")}


def test_long_names_of_marks_stay_apart() -> None:
    one, other = of_job("shiplap/main", "j" * 400 + "1"), of_job("shiplap/main", "j" * 400 + "2")
    assert one != other
    assert len(one) == len(other) == 255
