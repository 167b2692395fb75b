"""Pull requests of a project's own branches: run once by each pipeline, and not at all where the push builds them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select

from pipelines.hooks.deliveries import Delivery
from pipelines.model import HookSettings, Project, Run, RunRequest, RunResult, Trigger
from pipelines.runs.ownpulls import Verdict, judge
from pipelines.schema import runs
from pipelines.service import Service
from pipelines.statuses.outbox import list_statuses
from tests.pipelines.test_pipelines import COMMIT, SOURCE, claimed, node, nothing, pipeline, write
from tests.toolkit import forgepayloads as sent
from tests.toolkit.forgepayloads import SECRET, Hook

TRIES = 20
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


def test_pull_request_and_plan_at_once_make_one_run_of_it(service: Service) -> None:
    for _ in range(TRIES):
        before = len(pulls(service))
        claim = pushed(service)
        start = threading.Barrier(2)
        broken: list[BaseException] = []

        def hear(start: threading.Barrier = start, broken: list[BaseException] = broken) -> None:
            start.wait()
            try:
                with service.database.write() as connection:
                    if judge(connection, REQUEST, PULL) == "run":
                        service.runs.insert(connection, REQUEST, PULL)
            except BaseException as error:
                broken.append(error)

        hook = threading.Thread(target=hear)
        hook.start()
        start.wait()
        write(service, claim, pipeline(node("a")))
        hook.join()
        assert broken == []
        assert len(pulls(service)) == before + 1
        for run in service.runs.list(state="queued"):
            service.runs.cancel(run.number)
        for run in service.runs.list(state="running"):
            service.runs.cancel(run.number)


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_webhook_of_a_pull_request_starts_what_its_push_did_not_build(service: Service) -> None:
    url = "https://github.com/octo-org/hello.git"
    service.projects.put(Project("app", hook=HookSettings(url, "github")))
    service.projects.set_webhook_secret("app", SECRET)
    service.projects.set_status_token("app", "token")

    def send(hook: Hook) -> Delivery:
        headers, body = hook.request(SECRET)
        return service.receiver.receive("app", {name.lower(): value for name, value in headers.items()}, body).delivery

    first, second = "1" * 40, "2" * 40
    send(sent.github_push("refs/heads/feature", after=first))
    built(service, claimed(service))
    ignored = send(sent.github_pull_request(commit=first))
    assert (ignored.outcome, ignored.runs) == ("ignored", ())
    assert ignored.reason == "pull request 7: the push to branch feature builds it"
    send(sent.github_push("refs/heads/feature", before=first, after=second))
    write(service, claimed(service), pipeline(node("a")))
    (number,) = send(sent.github_pull_request("synchronize", commit=second)).runs
    run = service.runs.get(number)
    assert (run.trigger.kind, run.trigger.commit) == ("pull_request", second)
    assert number not in {status.run for status in list_statuses(service.database, "app")}, "nobody knows its marks yet"
    with service.database.read() as connection:
        wanted = select(runs.c.before).where(runs.c.number == number - 1)
        assert connection.execute(wanted).scalar_one() == first
    (newer,) = send(sent.github_pull_request("synchronize", commit=second)).runs
    assert service.runs.get(number).superseded_by == newer
