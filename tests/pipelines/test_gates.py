"""Gates on a service: who may answer, once, in one transaction; and what a run does while it waits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import pytest
from msgspec.structs import replace
from sqlalchemy import select, update

from ci.reports.model import Reports
from core.digests import DiffID
from core.errors import ShiplapError
from core.settings import ServiceSettings
from pipelines.accounts.users import Role
from pipelines.errors import ConflictError, DeniedError, NotFoundError, QueueUnreachableError
from pipelines.model import HookSettings, Project, RunRequest, Trigger
from pipelines.runs.authors import author_of
from pipelines.runs.gaterows import Changes, CommitTold, GateTerms, SummaryTold
from pipelines.runs.gates import Approver, end_late_gates
from pipelines.runs.graphs import RunPlan
from pipelines.runs.pipelines import PLANNING, PlannedRun, PlannedWork, end_late_runs
from pipelines.runs.reports import JobReports, keep_reports
from pipelines.runs.waking import waiting
from pipelines.schema import gates, runs
from pipelines.service import Service
from pipelines.statuses.outbox import list_statuses
from tests.pipelines.test_killed_in_a_transaction import die_in
from tests.pipelines.test_pipelines import COMMIT, LAYER, SOURCE, TRIGGER, claimed, end, node, reasons, states, write

ANA, BEN = Approver("ana", "ana", "192.0.2.7"), Approver("ben", "ben")
ROBOT = Approver("token ci", "")
DAY_S = 86400.0
ASKS = GateTerms("Ship it?")
GATE = 3  # the place of the gate in the runs of these tests: behind the plan and "a"


@pytest.fixture(autouse=True)
def people(service: Service) -> None:
    service.projects.put(Project("app", hook=HookSettings(forge="gitea", repository=SOURCE.url)))
    role: Role = "admin"
    for name in ("ana", "ben", "ada"):
        service.users.create(name, role)


def begun(service: Service, terms: GateTerms = ASKS, trigger: Trigger = TRIGGER, **plan: Any) -> int:
    """The number of a run ``a → go → b``, planned."""
    run = service.runs.submit(RunRequest(SOURCE, "app"), trigger)
    planned(service, terms, **plan)
    return run.number


def planned(service: Service, terms: GateTerms = ASKS, **plan: Any) -> None:
    nodes = (node("a"), node("go", "a", is_gate=True), node("b", "go"))
    about = RunPlan(".shiplap.yml", COMMIT, "refs/heads/main", timeout_s=plan.pop("timeout_s", 3600.0), **plan)
    work = tuple(PlannedWork(each, {}, gate=terms if each.is_gate else None) for each in nodes)
    write(service, claimed(service), ("main", lambda _: PlannedRun("main", about, work)))


def asking(service: Service, *arguments: Any, **members: Any) -> int:
    """The number of a run whose gate asks."""
    number = begun(service, *arguments, **members)
    end(service, claimed(service), outputs=LAYER)
    assert states(service, number)["go"] == "blocked"
    return number


def test_gate_asks_when_its_turn_has_come_and_yes_lets_the_run_go_on(service: Service) -> None:
    number = begun(service)
    with pytest.raises(ConflictError, match="asks nobody yet"):
        service.gates.answer(number, GATE, ANA, is_yes=True)
    end(service, claimed(service))
    run = service.runs.get(number)
    assert (run.state, run.reason) == ("blocked", "go waits for an answer: Ship it?")
    assert service.jobs.get(number, "go").reason == "waits for an answer: Ship it?"
    assert service.claims.take("w", ()) is None, "it holds no worker"
    service.gates.answer(number, GATE, ANA, is_yes=True, comment="looks\nfine")
    assert states(service, number) == {PLANNING: "succeeded", "a": "succeeded", "go": "succeeded", "b": "queued"}
    assert service.runs.get(number).state == "running"
    told = "approved by ana: looks\ufffdfine"
    assert reasons(service, number)["go"] == told
    view = service.gates.view(number, GATE)
    assert view is not None
    assert (view.decision, view.decided_by, view.comment) == ("approved", "ana", "looks\ufffdfine")
    job = service.jobs.number(number, GATE)
    lines = [data.decode() for _, data in service.logs.read(job, 1, 10)]
    assert "Ship it?" in lines[0]
    assert "waits for an answer until" in lines[1]
    assert f"shiplap runs approve {number} go" in lines[1]
    assert told in lines[2]
    assert end(service, claimed(service)).state == "succeeded"


def test_answer_counts_while_the_queue_is_away(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    number = begun(service)
    end(service, claimed(service))

    def away(*_: object) -> NoReturn:
        raise QueueUnreachableError("Redis does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(service.queue, "top_up", away)
        service.gates.answer(number, GATE, ANA, is_yes=True)
    assert states(service, number)["b"] == "queued"
    assert waiting(service.database) == {(): [number]}, "so the reaper's next look wakes a worker for it"


def test_no_fails_the_gate_and_what_needs_it_is_skipped(service: Service) -> None:
    number = asking(service)
    service.gates.answer(number, GATE, BEN, is_yes=False, comment="not on a Friday")
    run = service.runs.get(number)
    assert states(service, number)["b"] == "skipped"
    assert (run.state, run.reason) == ("failed", "go: refused by ben: not on a Friday")


def test_answer_is_in_the_audit_trail_and_the_wait_in_the_mark_of_the_commit(service: Service) -> None:
    number = asking(service)
    assert list_statuses(service.database, "app")[0].description == "waits for an answer: go"
    assert list_statuses(service.database, "app")[0].state == "pending"
    service.gates.answer(number, GATE, ANA, is_yes=True, comment="ok")
    (entry,) = service.audit.list(action="approve gate")
    assert (entry.actor, entry.subject, entry.detail, entry.address, entry.project) == (
        "ana", f"run={number} job=go", "ok", "192.0.2.7", "app",
    )  # fmt: skip
    end(service, claimed(service))
    other = asking(service)
    service.gates.answer(other, GATE, ANA, is_yes=False)
    assert [each.subject for each in service.audit.list(action="refuse gate")] == [f"run={other} job=go"]


def test_second_answer_changes_nothing(service: Service) -> None:
    number = asking(service)
    service.gates.answer(number, GATE, ANA, is_yes=True)
    for is_yes in (True, False):
        with pytest.raises(ConflictError, match="was approved already, by ana"):
            service.gates.answer(number, GATE, BEN, is_yes=is_yes)
    assert len(service.audit.list()) == 1
    with pytest.raises(ConflictError, match="is no gate"):
        service.gates.answer(number, 2, BEN, is_yes=True)
    with pytest.raises(NotFoundError):
        service.gates.answer(number, 99, BEN, is_yes=True)


def test_of_many_answers_at_once_one_counts(service: Service) -> None:
    number = asking(service)
    came: list[str] = []
    barrier = threading.Barrier(8)

    def answer(who: str, *, is_yes: bool) -> None:
        barrier.wait()
        try:
            service.gates.answer(number, GATE, Approver(who, who), is_yes=is_yes)
        except ShiplapError as error:
            came.append(type(error).__name__)
        else:
            came.append(who)

    threads = [threading.Thread(target=answer, args=(f"u{n}",), kwargs={"is_yes": n % 2 == 0}) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [each for each in came if each.startswith("u")]
    assert came.count("ConflictError") == 7, came
    view = service.gates.view(number, GATE)
    assert view is not None
    assert view.decided_by == winner
    assert len(service.audit.list()) == 1


@pytest.mark.parametrize(
    ("terms", "who", "told"),
    [
        (GateTerms("x", by=("ben", "eva")), ANA, "it asks ben, eva"),
        (GateTerms("x", not_author=True), Approver("ada", "ada"), "the run is of ada, and somebody else"),
        (GateTerms("x", not_author=True), Approver("Ada", "ADA"), "the run is of ada, and somebody else"),
        (GateTerms("x", not_author=True), ROBOT, "a robot's token may be anybody's"),
        (GateTerms("x", by=("ben",)), ROBOT, "a robot's token may be anybody's"),
    ],
)
def test_who_may_not_answer_is_told_why_and_the_gate_goes_on_asking(
    service: Service, terms: GateTerms, who: Approver, told: str
) -> None:
    number = asking(service, terms)
    with pytest.raises(DeniedError, match=told):
        service.gates.answer(number, GATE, who, is_yes=True)
    with pytest.raises(DeniedError, match=told):
        service.gates.answer(number, GATE, who, is_yes=False)
    assert states(service, number)["go"] == "blocked"
    assert told in service.gates.why_not(number, GATE, who.user)
    service.gates.answer(number, GATE, BEN, is_yes=True)


def test_robot_may_answer_what_asks_nobody_in_particular(service: Service) -> None:
    number = asking(service)
    service.gates.answer(number, GATE, ROBOT, is_yes=True)
    assert reasons(service, number)["go"] == "approved by token ci"


AUTHORS: list[tuple[Trigger, str]] = [
    (TRIGGER, "ada"),
    (replace(TRIGGER, by="eva", author="ada", retry_of=3), "ada"),
    (replace(TRIGGER, by="eva", retry_of=3), ""),
    (replace(TRIGGER, by="ada (token laptop)"), "ada"),
    (Trigger("manual", by="deploy bot", sender="user ada"), "ada"),
    (Trigger("manual", by="ben", sender="robot 7"), "robot 7"),
    (Trigger("manual", by="ben"), ""),
]


@pytest.mark.parametrize(("trigger", "author"), AUTHORS)
def test_author_is_whom_the_forge_or_the_service_knows(trigger: Trigger, author: str) -> None:
    assert author_of(trigger) == author


@pytest.mark.parametrize("trigger", [trigger for trigger, author in AUTHORS if author != "ada"])
def test_where_nobody_knows_the_author_nobody_is_shown_to_be_another(service: Service, trigger: Trigger) -> None:
    number = asking(
        service, GateTerms("x", not_author=True), replace(trigger, retry_of=0) if trigger.by == "x" else trigger
    )
    with pytest.raises(DeniedError, match="somebody else than the run's author has to answer, and"):
        service.gates.answer(number, GATE, BEN, is_yes=True)


def test_author_stays_the_author_when_another_repeats_the_run(service: Service) -> None:
    terms = GateTerms("x", not_author=True)
    number = asking(service, terms)
    service.gates.answer(number, GATE, BEN, is_yes=False)
    again = service.runs.retry(number, by="ben")
    planned(service, terms)
    end(service, claimed(service))
    assert author_of(service.runs.get(again.number).trigger) == "ada"
    with pytest.raises(DeniedError, match="the run is of ada"):
        service.gates.answer(again.number, GATE, Approver("ada", "ada"), is_yes=True)
    service.gates.answer(again.number, GATE, BEN, is_yes=True)


def test_answer_to_a_run_that_was_cancelled_meanwhile_starts_nothing(service: Service) -> None:
    number = asking(service)
    service.runs.cancel(number, by="ben")
    with pytest.raises(ConflictError, match="asks nobody any more: it has ended: cancelled"):
        service.gates.answer(number, GATE, ANA, is_yes=True)
    assert states(service, number)["b"] == "cancelled"
    assert service.runs.get(number).state == "cancelled"


def test_newer_push_supersedes_a_run_that_waits_for_people(service: Service) -> None:
    trigger = replace(TRIGGER, branch="topic")
    number = asking(service, GateTerms("x"), trigger)
    assert service.runs.get(number).state == "blocked"
    assert [run.number for run in service.runs.list(state="blocked")] == [number]
    with service.database.write() as connection:
        connection.execute(update(runs).where(runs.c.number == number).values(domain="app/branch/topic"))
    service.runs.cancel(number, superseded_by=number + 1)
    assert service.runs.get(number).state == "cancelled"


def test_nobody_s_answer_in_time_is_a_no(service: Service) -> None:
    number = asking(service, GateTerms("x", timeout_s=60.0))
    due_at = value(service, gates.c.due_at)
    assert end_late_gates(service.database, due_at - 1) == 0
    assert end_late_gates(service.database, due_at) == 1
    assert end_late_gates(service.database, due_at) == 0
    assert service.runs.get(number).reason == "go: nobody answered within 1m"
    assert states(service, number)["b"] == "skipped"
    with pytest.raises(ConflictError, match="asks nobody any more: nobody answered within 1m"):
        service.gates.answer(number, GATE, ANA, is_yes=True)


def test_time_of_the_run_stands_still_while_it_waits_for_people(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = asking(service, timeout_s=100.0)
    late_at = value(service, runs.c.late_at)
    assert end_late_runs(service.database, late_at + 5 * DAY_S) == 0
    blocked_at = value(service, runs.c.blocked_at)
    monkeypatch.setattr(service.gates, "_clock", lambda: blocked_at + 5 * DAY_S)
    service.gates.answer(number, GATE, ANA, is_yes=True)
    assert value(service, runs.c.late_at) == pytest.approx(late_at + 5 * DAY_S)
    assert value(service, runs.c.blocked_at) is None
    assert end_late_runs(service.database, late_at + 5 * DAY_S - 1) == 0
    assert end_late_runs(service.database, late_at + 5 * DAY_S) == 1


def value(service: Service, column: Any) -> Any:
    """A column of the only row that has something else than NULL there."""
    with service.database.read() as connection:
        return connection.execute(select(column).where(column.is_not(None))).scalar()


def approved(service: Service) -> int:
    """A run whose gate was approved, and whose last job failed."""
    number = asking(service)
    service.gates.answer(number, GATE, ANA, is_yes=True)
    end(service, claimed(service), "failed")
    return number


def test_approval_counts_in_a_run_that_repeats_it_with_the_same_content(service: Service) -> None:
    number = approved(service)
    again = service.runs.retry(number, by="ben")
    planned(service)
    end(service, claimed(service), outputs=LAYER)
    assert states(service, again.number) == {PLANNING: "succeeded", "a": "succeeded", "go": "succeeded", "b": "queued"}
    assert reasons(service, again.number)["go"] == f"approved by ana in run {number}, with the same content"
    end(service, claimed(service), "failed")
    third = service.runs.retry(again.number)
    planned(service)
    end(service, claimed(service), outputs=LAYER)
    view = service.gates.view(third.number, GATE)
    assert view is not None
    assert (view.decision, view.taken_from) == ("approved", number)


@pytest.mark.parametrize(
    "made", [{"outputs": DiffID.parse("sha256:" + "c" * 64)}, {"outputs": LAYER, "exports": {"V": "2"}}]
)
def test_gate_asks_again_where_what_it_approved_is_another(service: Service, made: dict[str, Any]) -> None:
    again = service.runs.retry(approved(service))
    planned(service)
    end(service, claimed(service), **made)
    assert states(service, again.number)["go"] == "blocked"


def test_gate_asks_again_when_the_approval_is_older_than_its_time(service: Service) -> None:
    number = approved(service)
    with service.database.write() as connection:
        connection.execute(update(gates).values(decided_at=gates.c.decided_at - 7 * DAY_S))
    again = service.runs.retry(number)
    planned(service)
    end(service, claimed(service), outputs=LAYER)
    assert states(service, again.number)["go"] == "blocked"


def test_refusal_and_another_run_s_approval_count_for_nobody(service: Service) -> None:
    number = asking(service)
    service.gates.answer(number, GATE, ANA, is_yes=False)
    again = service.runs.retry(number)
    planned(service)
    end(service, claimed(service), outputs=LAYER)
    assert states(service, again.number)["go"] == "blocked"
    service.runs.cancel(again.number)
    approved(service)
    assert states(service, asking(service))["go"] == "blocked"


def test_what_changed_leaves_out_what_was_approved_since(service: Service) -> None:
    commits = tuple(CommitTold(str(digit) * 40, "eva", f"commit {digit}") for digit in (3, 2, 1))
    first = approved(service)
    terms = GateTerms("x", changes=Changes(first, "0" * 40, commits, 3, 5))
    waiting = asking(service, terms)
    view = service.gates.view(waiting, GATE)
    assert view is not None
    assert view.changes == terms.changes
    last = service.gates.last_approved(service.runs.get(waiting), "main", "go")
    assert last == (first, COMMIT)
    newer = approved(service)
    with service.database.write() as connection:
        plan = connection.execute(select(runs.c.plan).where(runs.c.number == newer)).scalar_one()
        moved = update(runs).where(runs.c.number == newer)
        connection.execute(moved.values(plan=plan.replace(COMMIT, "1" * 40)))
    view = service.gates.view(waiting, GATE)
    assert view is not None
    assert view.changes == Changes(newer, "1" * 40, commits[:2], 2, 0)


def test_summaries_of_jobs_before_it_are_what_an_approver_looks_at(service: Service) -> None:
    number = begun(service)
    claim = claimed(service)
    reports = JobReports("a", COMMIT, True, Reports(summary="2 to change, <0> to destroy"))
    with service.database.write() as connection:
        keep_reports(connection, claim, reports, 1.0)
    end(service, claim)
    view = service.gates.view(number, GATE)
    assert view is not None
    assert view.summaries == (SummaryTold("a", "2 to change, <0> to destroy"),)


def test_kill_while_a_gate_is_decided_leaves_it_asking(service: Service, settings: ServiceSettings) -> None:
    number = asking(service)
    die_in(settings, "when a gate is answered", str(number))
    assert states(service, number) == {PLANNING: "succeeded", "a": "succeeded", "go": "blocked", "b": "waiting"}
    assert service.audit.list() == []
    view = service.gates.view(number, GATE)
    assert view is not None
    assert view.decision == ""
    service.gates.answer(number, GATE, ANA, is_yes=True)
    assert states(service, number)["b"] == "queued"


def test_cancelling_and_answering_at_once_never_leaves_a_job_behind(service: Service) -> None:
    for _ in range(6):
        number = asking(service)
        at_once(partial(service.gates.answer, number, GATE, ANA, is_yes=True), partial(service.runs.cancel, number))
        found = service.runs.get(number)
        if not found.is_final:  # yes came first, and the cancellation ended what it let go on
            claim = service.claims.take("w", ())
            assert claim is None
        assert states(service, number)["b"] == "cancelled"


def at_once(*calls: Callable[[], Any]) -> None:
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> None:
        barrier.wait()
        with contextlib.suppress(ConflictError):
            call()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
