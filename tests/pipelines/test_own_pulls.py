"""Pull requests of a project's own branches: run once by each pipeline, and not at all where the push builds them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from pipelines.model import HookSettings, Project, Run, RunRequest, RunResult, Trigger
from pipelines.runs.ownpulls import Verdict, judge
from pipelines.service import Service
from tests.pipelines.test_pipelines import COMMIT, SOURCE, claimed, node, nothing, pipeline, write

PUSH = Trigger("push", "ada", branch="topic", commit=COMMIT, default_branch="main")
PULL = Trigger("pull_request", "ada", branch="topic", commit=COMMIT, pull_request=7, target="main")
REQUEST = RunRequest(replace(SOURCE, only_pipelines=True), "app")


@pytest.fixture(autouse=True)
def project(service: Service) -> None:
    service.projects.put(Project("app", hook=HookSettings(forge="gitea", repository=SOURCE.url)))


def pushed(service: Service, trigger: Trigger = PUSH) -> Any:
    service.runs.submit(RunRequest(SOURCE, "app"), trigger)
    return claimed(service)


def built(service: Service, claim: Any) -> None:
    service.claims.finish(claim, "succeeded", "", RunResult(), store=nothing)


def verdict(service: Service, trigger: Trigger = PULL) -> Verdict:
    with service.database.write() as connection:
        return judge(connection, REQUEST, trigger)


def pulls(service: Service) -> list[Run]:
    return [run for run in service.runs.list() if run.trigger.kind == "pull_request"]


def test_push_that_was_planned_says_it_at_once(service: Service) -> None:
    write(service, pushed(service), pipeline(node("a")), pipeline(node("b"), name="second"))
    assert verdict(service) == "run"


def test_push_that_was_built_has_built_the_pull_request(service: Service) -> None:
    built(service, pushed(service))
    assert verdict(service) == "none"
    assert pulls(service) == []


def test_pull_request_waits_for_its_push_and_is_run_when_that_has_pipelines(service: Service) -> None:
    claim = pushed(service)
    assert verdict(service) == "held"
    assert pulls(service) == []
    write(service, claim, pipeline(node("a")), pipeline(node("b"), name="second"))
    (run,) = pulls(service)
    assert (run.state, run.trigger, run.source) == ("queued", PULL, REQUEST.source)


def test_pull_request_that_waits_is_forgotten_when_its_push_is_built(service: Service) -> None:
    claim = pushed(service)
    assert verdict(service) == "held"
    built(service, claim)
    assert pulls(service) == []
    assert verdict(service) == "none"


def test_attempt_that_breaks_off_loses_no_pull_request_and_doubles_none(service: Service) -> None:
    dead = pushed(service)
    assert verdict(service) == "held"
    service.claims.release(dead.number, dead.attempt, "it died")
    write(service, claimed(service), pipeline(node("a")))
    assert len(pulls(service)) == 1


def test_without_a_push_the_last_commit_that_was_looked_at_says_it(service: Service) -> None:
    assert verdict(service) == "none"
    built(service, pushed(service, replace(PUSH, branch="old", commit="1" * 40)))
    assert verdict(service) == "none"
    write(service, pushed(service, replace(PUSH, branch="new", commit="2" * 40)), pipeline(node("a")))
    pushed(service, replace(PUSH, branch="newest", commit="3" * 40))  # nobody knows yet
    assert verdict(service) == "run"
