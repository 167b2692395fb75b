"""Groups on a service: how many go on at once, in which order, and who comes next, whoever ended the one before."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select

from ci.graph import JobNode
from core.settings import ServiceSettings
from pipelines.model import HookSettings, Project, RunRequest
from pipelines.runs.graphs import RunPlan
from pipelines.runs.groups import hand_over
from pipelines.runs.pipelines import PLANNING, PlannedRun, PlannedWork
from pipelines.schema import jobs, runs
from pipelines.service import Service
from pipelines.statuses.outbox import list_statuses
from tests.pipelines.test_killed_in_a_transaction import die_in
from tests.pipelines.test_pipelines import COMMIT, SOURCE, TRIGGER, claimed, end, node, reasons, states, write


@pytest.fixture(autouse=True)
def project(service: Service) -> None:
    service.projects.put(Project("app", hook=HookSettings(forge="gitea", repository=SOURCE.url)))


def begun(service: Service, *nodes: JobNode, project: str = "app", **plan: Any) -> int:
    """The number of a run of these jobs, planned."""
    run = service.runs.submit(RunRequest(SOURCE, project), TRIGGER)
    about = RunPlan(".shiplap.yml", COMMIT, "refs/heads/main", timeout_s=3600.0, **plan)
    work = tuple(PlannedWork(each, {}) for each in nodes)
    claim = claimed(service)
    assert claim.run.number == run.number, "something else waits"
    write(service, claim, ("main", lambda _: PlannedRun("main", about, work)))
    return run.number


def deploy(name: str = "deploy", *needs: str, **members: Any) -> JobNode:
    return node(name, *needs, group="production", **members)


def going(service: Service) -> list[tuple[int, str]]:
    """Runs and names of the jobs of groups that have a place."""
    wanted = select(jobs.c.run, jobs.c.name).where(jobs.c.group_name != "", jobs.c.state.in_(("queued", "running")))
    with service.database.read() as connection:
        return [(row.run, row.name) for row in connection.execute(wanted.order_by(jobs.c.run, jobs.c.place))]


def test_one_goes_on_and_the_others_follow_in_the_order_of_their_runs(service: Service) -> None:
    first = begun(service, deploy())
    claim = claimed(service)
    second, third = begun(service, deploy()), begun(service, deploy())
    assert going(service) == [(first, "deploy")]
    run = service.runs.get(third)
    assert run.state == "blocked"
    told = f"waits for group production, held by deploy of run {first}, behind 1 that waits longer"
    assert (run.reason, service.jobs.get(third, "deploy").reason) == (f"deploy {told}", told)
    assert list_statuses(service.database, "app")[0].description == "waits for group production"
    assert service.claims.take("w", ()) is None
    end(service, claim)
    assert going(service) == [(second, "deploy")]
    assert service.runs.get(second).state == "running"
    end(service, claimed(service), "failed")
    assert going(service) == [(third, "deploy")]


def test_limit_is_how_many_and_a_job_of_an_older_run_goes_before_one_that_waited_longer(service: Service) -> None:
    first = begun(service, deploy(limit=2))
    one = claimed(service)
    older = begun(service, node("test"), deploy("deploy", "test", limit=2))
    test = claimed(service)
    second = begun(service, deploy(limit=2))
    two = claimed(service)
    newer = begun(service, deploy(limit=2))
    assert going(service) == [(first, "deploy"), (second, "deploy")]
    end(service, test)
    end(service, one)
    assert going(service) == [(older, "deploy"), (second, "deploy")], "run after run, whoever waits longer"
    end(service, two)
    assert going(service) == [(older, "deploy"), (newer, "deploy")]


def test_groups_are_of_one_project(service: Service) -> None:
    service.projects.put(Project("other", hook=HookSettings(forge="gitea", repository="https://git.example/o.git")))
    begun(service, deploy())
    claimed(service)
    number = begun(service, deploy(), project="other")
    assert states(service, number)["deploy"] == "queued"


def test_whatever_ends_a_job_hands_its_place_over(service: Service) -> None:
    numbers = [begun(service, deploy())]
    claim = claimed(service)
    numbers += [begun(service, deploy()) for _ in range(3)]
    assert service.claims.release(claim.number, claim.attempt, "worker w stopped answering") is not None
    assert going(service) == [(numbers[0], "deploy")], "it is tried again, and keeps its place"
    service.runs.cancel(numbers[0])
    assert going(service) == [(numbers[1], "deploy")]
    service.jobs.cancel(numbers[1], "deploy")
    assert going(service) == [(numbers[2], "deploy")]
    claim = claimed(service)
    for attempt in range(1, 4):  # the machines' fault, as often as it may start
        service.claims.release(claim.number, attempt, "worker w stopped answering")
        claim = claimed(service)
        if claim.run.number != numbers[2]:
            break
    assert states(service, numbers[2])["deploy"] == "error"
    assert going(service) == [(numbers[3], "deploy")]


def test_jobs_of_one_run_wait_for_each_other(service: Service) -> None:
    number = begun(service, deploy("a"), deploy("b"), deploy("c"))
    seen = []
    for _ in range(3):
        claim = claimed(service)
        assert service.claims.take("w2", ()) is None
        seen.append(claim.name)
        end(service, claim)
    assert seen == ["a", "b", "c"]
    assert service.runs.get(number).state == "succeeded"


def test_replace_keeps_the_newest_of_those_that_wait_and_ends_nobody_who_goes_on(service: Service) -> None:
    first = begun(service, deploy(when_busy="replace"))
    claim = claimed(service)
    second, third = (begun(service, deploy(when_busy="replace"), node("after", "deploy")) for _ in range(2))
    assert states(service, second) == {PLANNING: "succeeded", "deploy": "cancelled", "after": "cancelled"}
    assert reasons(service, second)["deploy"] == f"gave way to run {third} in group production"
    assert service.runs.get(second).state == "cancelled"
    assert (going(service), service.claims.why_cancelled(claim)) == ([(first, "deploy")], None)
    end(service, claim)
    assert going(service) == [(third, "deploy")]


def test_cancel_also_ends_the_one_that_goes_on(service: Service) -> None:
    first = begun(service, deploy(), node("clean", "deploy", after="always"))
    claim = claimed(service)
    second = begun(service, deploy(when_busy="cancel"))
    assert service.claims.why_cancelled(claim) == f"gave way to run {second} in group production"
    assert states(service, second)["deploy"] == "blocked", "until it has ended"
    end(service, claim, "cancelled")
    assert going(service) == [(second, "deploy")]
    assert states(service, first)["clean"] == "queued"


def test_older_run_never_ends_a_newer_one(service: Service) -> None:
    older = begun(service, node("test"), deploy("deploy", "test", when_busy="cancel"))
    test = claimed(service)
    newer = begun(service, deploy(when_busy="cancel"))
    claim = claimed(service)
    end(service, test)
    assert service.claims.why_cancelled(claim) is None
    assert (going(service), states(service, older)["deploy"]) == ([(newer, "deploy")], "blocked")


def test_run_of_a_group_begins_when_the_one_before_has_ended_gates_and_all(service: Service) -> None:
    first = begun(service, node("a"), node("b", "a"), group="site")
    claim = claimed(service)
    second = begun(service, node("a"), group="site")
    run = service.runs.get(second)
    assert (run.state, run.reason) == ("blocked", f"waits for group site, held by run {first}")
    assert states(service, second)["a"] == "waiting"
    end(service, claim)
    assert states(service, second)["a"] == "waiting", "the first one goes on"
    end(service, claimed(service))
    assert states(service, second)["a"] == "queued"
    assert service.runs.get(second).state == "running"
    end(service, claimed(service))
    with service.database.read() as connection:
        assert set(connection.execute(select(runs.c.group_state)).scalars()) == {""}


def test_run_that_waits_for_its_group_is_cancelled_or_replaced_without_having_begun(service: Service) -> None:
    begun(service, node("a"), group="site")
    claimed(service)
    second = begun(service, node("a"), group="site")
    third = begun(service, node("a"), node("b", "a", after="always"), group="site", when_busy="replace")
    assert states(service, second) == {PLANNING: "succeeded", "a": "cancelled"}
    assert service.runs.get(second).reason == f"gave way to run {third} in group site"
    service.runs.cancel(third, by="ana")
    assert states(service, third) == {PLANNING: "succeeded", "a": "cancelled", "b": "cancelled"}


def test_run_with_nothing_to_do_holds_no_group(service: Service) -> None:
    begun(service, group="site", reason="no job of the pipeline is for this")
    second = begun(service, node("a"), group="site")
    assert states(service, second)["a"] == "queued"


def test_kill_between_the_end_and_the_hand_over_leaves_it_to_the_reaper(
    service: Service, settings: ServiceSettings
) -> None:
    first = begun(service, deploy())
    second = begun_behind(service, first)
    die_in(settings, "when a group hands over")
    assert states(service, first)["deploy"] == "succeeded"
    assert states(service, second)["deploy"] == "blocked"
    assert hand_over(service.database, 0.0) == 1
    assert going(service) == [(second, "deploy")]
    assert hand_over(service.database, 0.0) == 0


def begun_behind(service: Service, first: int) -> int:
    """A run whose job waits for the group that the first one's queued job has. The first is claimed by others."""
    run = service.runs.submit(replace(RunRequest(SOURCE, "app"), priority=5), TRIGGER)
    about = RunPlan(".shiplap.yml", COMMIT, "refs/heads/main", timeout_s=3600.0)
    write(service, claimed(service), ("main", lambda _: PlannedRun("main", about, (PlannedWork(deploy(), {}),))))
    assert going(service) == [(first, "deploy")]
    return run.number


def test_place_is_given_once_however_many_hand_over_at_once(service: Service) -> None:
    numbers = [begun(service, deploy())]
    claim = claimed(service)
    numbers += [begun(service, deploy()) for _ in range(4)]
    for _ in range(3):
        end(service, claim)
        threads = [threading.Thread(target=hand_over, args=(service.database, 1.0)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(going(service)) == 1
        claim = claimed(service)
    assert claim.run.number == numbers[3]
