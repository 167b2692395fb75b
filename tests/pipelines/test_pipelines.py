"""Runs of pipelines in the database: planned as a whole or not at all, moved on by whoever ends a job, ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from ci.ends import JobOutcome
from ci.graph import JobNode
from core.digests import DiffID
from core.trust import of_branch
from pipelines.counters import count_run
from pipelines.errors import ConflictError, NotFoundError, SecretError, StaleAttemptError
from pipelines.model import Claim, GitSource, HookSettings, Project, Run, RunRequest, Trigger
from pipelines.runs import pipelines as planning_module
from pipelines.runs.graphs import RunPlan, stop_pipeline
from pipelines.runs.pipelines import PLANNING, PlannedRun, PlannedWork, end_late_runs
from pipelines.runs.states import follow_job, hold_run
from pipelines.runs.waking import waiting
from pipelines.schema import jobs, run_secrets, runs
from pipelines.service import Service
from pipelines.statuses.outbox import list_statuses
from tests.toolkit.service import RedisServer

SOURCE = GitSource("https://git.example/app.git", "main")
COMMIT = "a" * 40
LAYER = DiffID.parse("sha256:" + "b" * 64)
TRIGGER = Trigger("push", "ada", branch="main", commit=COMMIT, context="shiplap", default_branch="main")


def nothing(connection: Connection) -> None:
    """Stores the log of a job that printed nothing."""


def node(name: str, *needs: str, **members: Any) -> JobNode:
    return JobNode(name, needs=needs, **members)


def pipeline(*nodes: JobNode, name: str = "main", labels: Mapping[str, tuple[str, ...]] = {}, **plan: Any) -> Any:
    about = RunPlan(".shiplap.yml", COMMIT, "refs/heads/main", timeout_s=plan.pop("timeout_s", 3600.0), **plan)

    def planned(number: int) -> PlannedRun:
        work = tuple(PlannedWork(each, {"name": each.name}, labels.get(each.name, ())) for each in nodes)
        return PlannedRun(name, replace(about, facts={"SHIPLAP_RUN": str(number)}), work)

    return name, planned


def claimed(service: Service, worker: str = "w", labels: tuple[str, ...] = ()) -> Claim:
    claim = service.claims.take(worker, labels)
    assert claim is not None
    return claim


def write(service: Service, claim: Claim, *pipelines: Any, secrets: dict[str, bytes] | None = None) -> list[int]:
    return service.pipelines.write(claim, pipelines, mark="shiplap", own_secrets=secrets or {}, store=nothing)


def states(service: Service, run: int) -> dict[str, str]:
    with service.database.read() as connection:
        rows = connection.execute(select(jobs.c.name, jobs.c.state).where(jobs.c.run == run).order_by(jobs.c.place))
        return {row.name: row.state for row in rows}


def reasons(service: Service, run: int) -> dict[str, str]:
    with service.database.read() as connection:
        rows = connection.execute(select(jobs.c.name, jobs.c.reason).where(jobs.c.run == run).order_by(jobs.c.place))
        return {row.name: row.reason for row in rows}


def end(service: Service, claim: Claim, state: Any = "succeeded", **members: Any) -> Run:
    outcome = JobOutcome(state, **members) if state != "cancelled" else JobOutcome("failed")
    return service.claims.finish(claim, state, outcome.message, outcome, store=nothing)


def begun(service: Service, *nodes: JobNode, **plan: Any) -> int:
    """The number of a run of these jobs, planned."""
    run = service.runs.submit(RunRequest(SOURCE, "app"), TRIGGER)
    write(service, claimed(service), pipeline(*nodes, **plan))
    return run.number


def test_jobs_run_as_soon_as_what_they_need_has_succeeded(service: Service) -> None:
    number = begun(service, node("lint"), node("test"), node("app", "lint", "test"))
    assert states(service, number) == {PLANNING: "succeeded", "lint": "queued", "test": "queued", "app": "waiting"}
    assert service.runs.get(number).state == "running"
    lint, test = claimed(service, "w1"), claimed(service, "w2")
    assert [(claim.name, claim.kind, claim.attempt) for claim in (lint, test)] == [
        ("lint", "job", 1),
        ("test", "job", 1),
    ]
    assert service.claims.take("w3", ()) is None
    end(service, lint)
    assert states(service, number)["app"] == "waiting"
    end(service, test, outputs=LAYER, exports={"V": "1"})
    assert waiting(service.database) == {(): [number]}
    app = claimed(service)
    basis = service.pipelines.basis(app)
    assert basis.before == {"lint": frozenset(), "test": frozenset(), "app": {"lint", "test"}}
    assert basis.outcomes["test"] == JobOutcome("succeeded", outputs=LAYER, exports={"V": "1"})
    run = end(service, app)
    assert (run.state, run.reason) == ("succeeded", "")
    assert run.finished_at is not None


def test_other_pipelines_of_the_commit_get_runs_of_their_own_in_the_same_transaction(service: Service) -> None:
    service.projects.put(Project("app", hook=HookSettings(forge="gitea", repository=SOURCE.url)))
    asked = service.runs.submit(RunRequest(SOURCE, "app", secrets={"KEY": b"very secret"}), TRIGGER)
    wrong = PlannedRun("broken", RunPlan(".shiplap/broken.yml", COMMIT, timeout_s=9.0), error="x.yml:1:1: error: no")
    idle = ("idle", lambda _: PlannedRun("idle", RunPlan("i", COMMIT, timeout_s=9.0, reason="not for push")))
    numbers = write(
        service,
        claimed(service),
        pipeline(node("a"), name="first"),
        pipeline(node("b"), name="second"),
        ("broken", lambda _: wrong),
        idle,
        secrets={"KEY": b"very secret"},
    )
    first, second, broken, nothing_to_do = map(service.runs.get, numbers)
    assert numbers[0] == asked.number
    assert [run.state for run in (first, second, broken, nothing_to_do)] == [
        "running", "running", "failed", "succeeded",
    ]  # fmt: skip
    assert (broken.reason, nothing_to_do.reason) == ("x.yml:1:1: error: no", "not for push")
    assert broken.result is not None
    assert broken.result.error == wrong.error
    assert {row.context: row.state for row in reversed(list_statuses(service.database, "app"))} == {
        "shiplap": "success", "shiplap/first": "running", "shiplap/second": "running", "shiplap/broken": "failure",
        "shiplap/idle": "success",
    }  # fmt: skip
    for _ in range(2):
        job = claimed(service)
        number = service.pipelines.first_job(job.run.number)
        assert service.secrets.reveal(["KEY"], project="app", job=number) == {"KEY": b"very secret"}
        end(service, job)
    with service.database.read() as connection:
        assert connection.execute(select(run_secrets)).all() == []


def test_runs_that_are_planned_together_end_once_all_are_planned(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planning may take seconds, and whoever else ends a run waits from the first end on."""
    done: list[str] = []

    def idle(name: str) -> tuple[str, Callable[[int], PlannedRun]]:
        def planned(number: int) -> PlannedRun:
            done.append(f"plan {name}")
            return PlannedRun(name, RunPlan("i", COMMIT, timeout_s=9.0, reason="not for push"))

        return name, planned

    def count(connection: Connection, number: int) -> None:
        done.append("count")
        count_run(connection, number)

    monkeypatch.setattr("pipelines.runs.rollups.count_run", count)
    service.runs.submit(RunRequest(SOURCE, "app"), TRIGGER)
    numbers = write(service, claimed(service), idle("a"), idle("b"))
    assert done == ["plan a", "plan b", "count", "count"]
    assert [service.runs.get(number).state for number in numbers] == ["succeeded", "succeeded"]


def test_plan_that_breaks_off_leaves_nothing(service: Service) -> None:
    run = service.runs.submit(RunRequest(SOURCE, "app"), TRIGGER)

    def breaks(number: int) -> PlannedRun:
        raise SecretError(f"run {number}")

    claim = claimed(service)
    with pytest.raises(SecretError):
        write(service, claim, pipeline(node("a")), ("second", breaks))
    assert states(service, run.number) == {"build": "running"}
    assert [each.number for each in service.runs.list()] == [run.number]
    service.claims.release(claim.number, claim.attempt, "it died")
    with pytest.raises(StaleAttemptError):
        write(service, claim, pipeline(node("a")))
    write(service, claimed(service), pipeline(node("a")))
    assert states(service, run.number) == {PLANNING: "succeeded", "a": "queued"}


def test_failure_skips_what_needs_it_and_is_the_run_s(service: Service) -> None:
    number = begun(service, node("a"), node("b", "a"), node("c", "b"), node("tell", "a", after="failure"), node("d"))
    end(service, claimed(service), "failed", message="exit code 1\nmore", failure="failure", exit_code=1)
    assert states(service, number) == {
        PLANNING: "succeeded", "a": "failed", "b": "skipped", "c": "skipped", "tell": "queued", "d": "queued",
    }  # fmt: skip
    assert reasons(service, number)["c"] == "a, which has to succeed before it, failed"
    end(service, claimed(service))
    run = end(service, claimed(service))
    assert (run.state, run.reason) == ("failed", "a: exit code 1")


def test_allowed_failure_stops_nobody(service: Service) -> None:
    number = begun(service, node("a", may_fail=True), node("b", "a"))
    end(service, claimed(service), "failed", message="no")
    job = claimed(service)
    assert service.pipelines.basis(job).outcomes["a"].state == "failed"
    run = end(service, job)
    assert (run.state, run.reason) == ("warnings", "a failed, which is allowed")
    assert run.is_final
    assert states(service, number)["a"] == "failed"


def test_success_of_another_attempt_is_a_warning(service: Service) -> None:
    begun(service, node("a"), node("b", may_fail=True))
    service.claims.try_again(claimed(service), "exit code 1", store=nothing)
    while (claim := service.claims.take("w", ())) is not None:
        run = end(service, claim, "failed" if claim.name == "b" else "succeeded", message="no")
    assert (run.state, run.reason) == ("warnings", "b failed, which is allowed; a succeeded only when tried again")


def test_job_is_tried_again_without_counting_as_a_machine_s_fault(service: Service) -> None:
    run = service.runs.submit(RunRequest(SOURCE, "app", max_attempts=1), TRIGGER)
    write(service, claimed(service), pipeline(node("a")))
    first = claimed(service)
    service.claims.try_again(first, "exit code 1", store=nothing)
    assert states(service, run.number)["a"] == "queued"
    with pytest.raises(StaleAttemptError):
        end(service, first)
    again = claimed(service)
    assert (again.number, again.attempt, again.failures) == (first.number, 2, 1)
    service.claims.release(again.number, again.attempt, "the worker died")
    found = service.runs.get(run.number)
    assert (found.state, states(service, run.number)["a"]) == ("error", "error")
    assert found.reason.startswith("a: attempt 2 of 2 came to nothing")


def test_what_a_dead_worker_left_is_given_to_another_and_only_one_ends_it(service: Service) -> None:
    number = begun(service, node("a"), node("b", "a"))
    dead = claimed(service, "dead")
    service.claims.release(dead.number, dead.attempt, "worker dead stopped answering")
    assert states(service, number) == {PLANNING: "succeeded", "a": "queued", "b": "waiting"}
    alive = claimed(service, "alive")
    with pytest.raises(StaleAttemptError):
        end(service, dead)
    end(service, alive)
    assert states(service, number) == {PLANNING: "succeeded", "a": "succeeded", "b": "queued"}


def test_cancel_lets_what_cleans_up_run_and_the_second_one_does_not(service: Service) -> None:
    nodes = (node("up"), node("more", "up"), node("down", "up", after="always"), node("never", "more", after="always"))
    number = begun(service, *nodes)
    up = claimed(service)
    service.runs.cancel(number, by="ana")
    assert service.claims.why_cancelled(up) == "cancelled by ana"
    assert not service.claims.is_killed(up)
    assert states(service, number) == {
        PLANNING: "succeeded", "up": "running", "more": "cancelled", "down": "waiting", "never": "cancelled",
    }  # fmt: skip
    end(service, up, "cancelled")
    down = claimed(service)
    assert (down.name, service.claims.why_cancelled(down)) == ("down", None)
    service.runs.cancel(number, by="ben")
    assert service.claims.why_cancelled(down) == "cancelled by ana"
    assert service.claims.is_killed(down)
    run = end(service, down, "cancelled")
    assert (run.state, run.reason, run.cancelled_by) == ("cancelled", "cancelled by ana", "ana")
    with pytest.raises(ConflictError):
        service.runs.cancel(number)


def test_cancelled_job_takes_along_what_needs_it_and_no_other(service: Service) -> None:
    nodes = (
        node("up"), node("more", "up"), node("down", "up", after="always"), node("tell", "up", after="failure"),
        node("other"), node("last", "other"),
    )  # fmt: skip
    number = begun(service, *nodes)
    up, other = claimed(service, "w1"), claimed(service, "w2")
    (view,) = service.jobs.cancel(number, "up", by="ana")
    assert (view.name, view.state) == ("up", "running")
    assert (service.claims.why_cancelled(up), service.claims.is_killed(up)) == ("cancelled by ana", False)
    assert service.claims.why_cancelled(other) is None
    assert states(service, number) == {
        PLANNING: "succeeded", "up": "running", "more": "cancelled", "down": "waiting", "tell": "cancelled",
        "other": "running", "last": "waiting",
    }  # fmt: skip
    assert reasons(service, number)["more"] == "cancelled by ana"
    service.jobs.cancel(number, "up", by="ben")
    assert (service.claims.why_cancelled(up), service.claims.is_killed(up)) == ("cancelled by ana", True)
    assert not service.claims.is_killed(other)
    assert (states(service, number)["down"], reasons(service, number)["down"]) == ("cancelled", "cancelled by ben")
    end(service, up, "cancelled")
    end(service, other)
    run = end(service, claimed(service))
    assert (run.state, run.reason.partition(":")[0]) == ("cancelled", "up (and 3 more)")


def test_job_that_cleans_up_after_a_cancelled_one_is_done_unless_it_is_cancelled_itself(service: Service) -> None:
    number = begun(service, node("up"), node("down", "up", after="always"))
    up = claimed(service)
    service.jobs.cancel(number, "up", by="ana")
    end(service, up, "cancelled")
    down = claimed(service)
    assert (down.name, service.claims.why_cancelled(down)) == ("down", None)
    service.jobs.cancel(number, "down", by="ben")
    assert (service.claims.why_cancelled(down), service.claims.is_killed(down)) == ("cancelled by ben", False)
    service.jobs.cancel(number, "up", by="eve")
    assert (service.claims.why_cancelled(down), service.claims.is_killed(down)) == ("cancelled by ben", True)
    end(service, down, "cancelled")
    with pytest.raises(ConflictError, match="has ended: cancelled"):
        service.jobs.cancel(number, "up")


def test_waiting_job_is_cancelled_at_once_and_a_matrix_as_a_whole(service: Service) -> None:
    number = begun(service, node("t (1)", matrix="t"), node("t (2)", matrix="t"), node("app", "t (1)"), node("z"))
    assert [view.name for view in service.jobs.cancel(number, "t")] == ["t (1)", "t (2)"]
    assert states(service, number) == {
        PLANNING: "succeeded", "t (1)": "cancelled", "t (2)": "cancelled", "app": "cancelled", "z": "queued",
    }  # fmt: skip
    assert [view.name for view in service.jobs.cancel(number, "5")] == ["z"]
    assert service.runs.get(number).state == "cancelled"
    with pytest.raises(NotFoundError, match="has no job 'tt'"):
        service.jobs.cancel(number, "tt")
    with pytest.raises(ConflictError):
        service.jobs.cancel(number, PLANNING)


def test_newer_push_ends_what_is_not_protected_and_never_kills(service: Service) -> None:
    number = begun(service, node("a"), node("b", "a", after="always"))
    with pytest.raises(ConflictError, match="not superseded"):
        service.runs.cancel(number, superseded_by=9)
    with service.database.write() as connection:
        label = of_branch("app", "dev").label
        connection.execute(update(runs).where(runs.c.number == number).values(domain=label))
    claim = claimed(service)
    assert service.runs.cancel(number, superseded_by=9).superseded_by == 9
    with pytest.raises(ConflictError, match="already"):
        service.runs.cancel(number, superseded_by=10)
    assert service.claims.why_cancelled(claim) == "superseded by #9"
    assert not service.claims.is_killed(claim)


def test_newer_push_ends_no_run_of_a_protected_branch_that_may_become_a_deployment(service: Service) -> None:
    """Nobody has looked at a run that waits: what the project's last run was like has to tell."""
    first, second = (service.runs.submit(RunRequest(SOURCE, "app"), TRIGGER).number for _ in range(2))
    assert service.runs.cancel(first, superseded_by=second).state == "cancelled", (
        "as far as anybody knows it is a build"
    )
    end(service, claimed(service))
    service.runs.cancel(service.runs.submit(RunRequest(SOURCE, "app"), TRIGGER).number, superseded_by=9)
    begun(service)
    service.runs.cancel(service.runs.submit(RunRequest(SOURCE, "app"), TRIGGER).number, by="ana")
    waits = service.runs.submit(RunRequest(SOURCE, "app"), TRIGGER).number
    with pytest.raises(ConflictError, match="not superseded"):
        service.runs.cancel(waits, superseded_by=9)
    assert claimed(service).run.number == waits
    with pytest.raises(ConflictError, match="not superseded"):
        service.runs.cancel(waits, superseded_by=9)
    on_branch = service.runs.submit(RunRequest(SOURCE, "app"), replace(TRIGGER, branch="dev")).number
    assert service.runs.cancel(on_branch, superseded_by=9).state == "cancelled"
    assert service.runs.cancel(waits, by="ana").cancel_requested


def test_what_a_cancel_lets_begin_is_announced_at_once(service: Service, shared_redis: RedisServer) -> None:
    """Nobody has to wait for the reaper."""
    number = begun(service, node("t (1)", matrix="t", max_parallel=1), node("t (2)", matrix="t", max_parallel=1))
    assert states(service, number)["t (2)"] == "waiting"
    shared_redis.empty()
    service.jobs.cancel(number, "t (1)")
    assert (states(service, number)["t (2)"], service.queue.depth()) == ("queued", 1)
    end(service, claimed(service))
    number = begun(service, node("up"), node("more", "up"), node("down", "up", "more", after="always"))
    end(service, claimed(service))
    shared_redis.empty()
    service.runs.cancel(number, by="ana")
    assert (states(service, number)["down"], service.queue.depth()) == ("queued", 1)


def test_cancelled_attempt_that_a_machine_ends_is_cancelled(service: Service) -> None:
    number = begun(service, node("a"), node("b", "a", after="always"))
    claim = claimed(service)
    service.runs.cancel(number, by="ana")
    service.claims.release(claim.number, claim.attempt, "the worker died")
    assert states(service, number) == {PLANNING: "succeeded", "a": "cancelled", "b": "queued"}


def test_run_ends_when_its_time_is_over(service: Service) -> None:
    number = begun(service, node("a"), node("b"), timeout_s=60.0)
    claim = claimed(service)
    with service.database.write() as connection:
        late_at: float = connection.execute(select(runs.c.late_at).where(runs.c.number == number)).scalar_one()
    assert end_late_runs(service.database, late_at - 1) == 0
    assert end_late_runs(service.database, late_at) == 1
    assert service.claims.why_cancelled(claim) == "stopped after 60 s, the run's time-out"
    run = end(service, claim, "cancelled")
    assert (run.state, run.reason) == ("cancelled", "stopped after 60 s, the run's time-out")


def test_run_that_somebody_ends_as_its_time_is_over_still_cleans_up(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = begun(service, node("a"), node("clean", "a", after="always"), timeout_s=60.0)
    claim = claimed(service)

    def ended_meanwhile(connection: Connection, run: int) -> None:
        hold_run(connection, run)
        stop_pipeline(connection, run, "cancelled by ana")
        follow_job(connection, run, 1e12)

    monkeypatch.setattr(planning_module, "hold_run", ended_meanwhile)
    end_late_runs(service.database, 1e12)
    assert service.claims.why_cancelled(claim) == "cancelled by ana"
    end(service, claim, "cancelled")
    assert states(service, number)["clean"] == "queued"


def test_first_failure_ends_the_others_where_the_pipeline_says_so(service: Service) -> None:
    number = begun(service, node("a"), node("b"), node("c"), stop_on_failure=True)
    a, b = claimed(service), claimed(service)
    end(service, a, "failed", message="no")
    assert service.claims.why_cancelled(b) == "another job had failed"
    assert states(service, number)["c"] == "cancelled"
    assert end(service, b, "cancelled").state == "cancelled"


def test_jobs_go_to_workers_with_their_labels_and_their_run_s(service: Service) -> None:
    service.runs.submit(RunRequest(SOURCE, "app", worker_labels=("big",)), TRIGGER)
    write(service, claimed(service, labels=("big",)), pipeline(node("a"), node("b"), labels={"b": ("gpu",)}))
    assert claimed(service, labels=("big",)).name == "a"
    assert service.claims.take("w", ("gpu",)) is None
    assert claimed(service, labels=("big", "gpu")).name == "b"


def test_job_that_waits_says_why(service: Service) -> None:
    service.workers.beat("w", ("amd64",), 2)
    nodes = (
        node("a"), node("gpu"), node("b", "a"), node("c", "b", "a"),
        *(node(f"m ({value})", matrix="m", max_parallel=1) for value in "xy"),
    )  # fmt: skip
    service.runs.submit(RunRequest(SOURCE, "app"), TRIGGER)
    write(service, claimed(service), pipeline(*nodes, labels={"gpu": ("gpu",)}))
    assert claimed(service).name == "a"
    told = {job.name: job.reason for job in service.jobs.list(1)}
    assert told == {
        PLANNING: "", "a": "", "gpu": "no running worker has the label gpu", "b": "waits for a",
        "c": "waits for a and b", "m (x)": "about to start", "m (y)": "m has 1 job going, and may have 1",
    }  # fmt: skip
    service.workers.beat("w", ("amd64", "gpu"), 1)
    told = {job.name: job.reason for job in service.jobs.list(1)}
    assert told["gpu"] == "all workers are busy"
    assert told["m (x)"] == "all workers are busy, and 1 job is ahead of it"


def test_lists_have_the_first_jobs_of_runs_and_count_all(service: Service) -> None:
    run = begun(service, node("a"), node("b", may_fail=True), *(node(f"n{index}", "a") for index in range(28)))
    end(service, claimed(service))
    end(service, claimed(service), "failed")
    marks = service.jobs.marks([run, 99])
    assert set(marks) == {run}
    assert marks[run].counts == {"succeeded": 1, "failed": 1, "queued": 28}
    assert [(mark.name, mark.state, mark.is_warning) for mark in marks[run].first[:3]] == [
        ("a", "succeeded", False), ("b", "failed", True), ("n0", "queued", False),
    ]  # fmt: skip
    assert len(marks[run].first) == 24


def test_image_means_in_a_run_what_it_meant_first(service: Service) -> None:
    number = begun(service, node("a"), node("b"))
    a, b = claimed(service), claimed(service)
    assert service.pipelines.get_image(number, "alpine:3") is None
    assert service.pipelines.keep_image(a, "alpine:3", "alpine@sha256:1") == "alpine@sha256:1"
    assert service.pipelines.keep_image(b, "alpine:3", "alpine@sha256:2") == "alpine@sha256:1"
    assert service.pipelines.get_image(number, "alpine:3") == "alpine@sha256:1"
    end(service, b)
    with pytest.raises(StaleAttemptError):
        service.pipelines.keep_image(b, "debian", "x")


def test_retry_is_a_run_of_the_same_commit(service: Service) -> None:
    number = begun(service, node("a"))
    end(service, claimed(service), "failed", message="no")
    again = service.runs.retry(number, by="ana")
    assert isinstance(again.source, GitSource)
    assert (again.source.ref, again.source.branch, again.trigger.retry_of) == (COMMIT, "main", number)
    assert service.pipelines.pipeline_of(number) == "main"
    assert service.pipelines.pipeline_of(again.number) == ""


def planned(service: Service, commit: str, *nodes: JobNode, before: str = "", **members: Any) -> Run:
    """A run of a push, planned and not begun. members: of the trigger and the plan, and the pipeline's name."""
    name, reason = members.pop("name", "main"), members.pop("reason", "")
    trigger = replace(TRIGGER, commit=commit, **members)
    with service.database.write() as connection:
        run = service.runs.insert(connection, RunRequest(SOURCE, "app"), trigger, before=before)
    facts: dict[str, str] = {"SHIPLAP_EVENT": trigger.kind}
    about = RunPlan(".shiplap.yml", commit, facts=facts, timeout_s=60.0, reason=reason)
    work = tuple(PlannedWork(each, {}) for each in nodes)
    write(service, claimed(service), (name, lambda _: PlannedRun(name, about, work)))
    return service.runs.get(run.number)


def ends(service: Service, state: str) -> None:
    end(service, claimed(service), state, message="no")


def test_last_success_counts_what_was_tried_by_the_same_event_of_the_same_owner(service: Service) -> None:
    first, second = "1" * 40, "2" * 40

    def last(run: Run, pipeline: str = "main", branch: str = "main", commit: str = COMMIT) -> str:
        return service.pipelines.last_success(run, pipeline, branch, commit)

    assert last(planned(service, first, node("a"))) == ""
    ends(service, "succeeded")
    this = planned(service, COMMIT, node("a"), name="other")
    ends(service, "failed")
    assert last(this) == first
    assert last(this, pipeline="other") == ""
    assert last(this, branch="dev") == ""
    assert last(this, commit=first) == "", "repeated, it is all run again"
    assert last(planned(service, COMMIT, reason="no file has changed")) == first
    assert last(planned(service, COMMIT, kind="manual", reason="x")) == ""
    pull = planned(service, second, node("a"), kind="pull_request", pull_request=3, fork=True)
    ends(service, "succeeded")
    assert last(replace(pull, number=this.number)) == "", "a fork's branch may be called main"
    assert last(planned(service, COMMIT, reason="x")) == first
    planned(service, second, node("a", may_fail=True))
    ends(service, "failed")
    assert last(planned(service, COMMIT, reason="x")) == second, "what was allowed to fail counts as success"


def test_commit_before_a_push_counts_unless_it_failed(service: Service) -> None:
    good, bad = "1" * 40, "2" * 40
    planned(service, good, node("a"))
    ends(service, "succeeded")
    planned(service, bad, node("a"))
    ends(service, "failed")
    after_good = planned(service, COMMIT, before=good, reason="x")
    assert service.pipelines.before(after_good, "main", "main") == good
    after_bad = planned(service, COMMIT, before=bad, reason="x")
    assert service.pipelines.before(after_bad, "main", "main") == ""
    assert service.pipelines.before(after_bad, "other", "main") == bad
    assert service.pipelines.before(planned(service, COMMIT, reason="x"), "main", "main") == ""


def test_run_that_is_cancelled_while_it_is_planned_begins_no_job(service: Service) -> None:
    run = service.runs.submit(RunRequest(SOURCE, "app"), TRIGGER)
    claim = claimed(service)
    service.runs.cancel(run.number, by="ana")
    assert write(service, claim, pipeline(node("a")), pipeline(node("b"), name="b")) == []
    ended = service.runs.get(run.number)
    assert (ended.state, ended.reason) == ("cancelled", "cancelled by ana")
    assert states(service, run.number) == {"build": "cancelled"}


def test_retry_of_a_part_marks_nothing_takes_results_over_and_is_no_success_of_the_whole(service: Service) -> None:
    service.projects.put(Project("app", hook=HookSettings(forge="gitea", repository=SOURCE.url)))
    number = begun(service, node("make"), node("bad"), node("use", "make"))
    make, bad = claimed(service, "w1"), claimed(service, "w2")
    service.pipelines.keep_image(make, "base", "base@sha256:1")
    end(service, make, outputs=LAYER)
    end(service, bad, "failed", message="no")
    end(service, claimed(service))
    results = service.pipelines.results(number)
    assert results == {
        "make": JobOutcome("succeeded", outputs=LAYER), "bad": None, "use": JobOutcome("succeeded"),
    }  # fmt: skip
    before = len(list_statuses(service.database, "app"))
    again = service.runs.retry(number, by="ana", redo=("use",))
    assert again.trigger.redo == ("use",)
    taken = JobOutcome("reused", outputs=LAYER, reused_from=str(number))
    facts = {"SHIPLAP_EVENT": "push"}
    plan = RunPlan(".shiplap.yml", COMMIT, facts=facts, timeout_s=9.0, left_out={"bad": "no"}, is_partial=True)
    found = PlannedRun("main", plan, (PlannedWork(node("make"), {}, taken=taken), PlannedWork(node("use", "make"), {})))
    write(service, claimed(service), ("main", lambda _: found))
    use = claimed(service)
    assert (use.name, service.pipelines.basis(use).outcomes) == ("use", {"make": taken})
    assert service.pipelines.get_image(again.number, "base") == "base@sha256:1"
    assert end(service, use).state == "succeeded"
    assert service.jobs.get(again.number, "make").reused_from == str(number)
    assert reasons(service, again.number)["make"] == f"taken over from run {number}"
    assert len(list_statuses(service.database, "app")) == before
    assert service.pipelines.last_success(planned(service, "3" * 40, reason="x"), "main", "main", "3" * 40) == ""


def test_log_of_a_run_is_its_first_job_s(service: Service) -> None:
    number = begun(service, node("a"))
    with service.database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.run == number, jobs.c.place == 2).values(lines=7))
    assert service.runs.get(number).lines == 0
    assert service.runs.job(number).number == service.pipelines.first_job(number)
    assert [run.number for run in service.runs.list()] == [number]
