"""Whose turn it is: fair shares between projects, and claims at once that never exceed what a project may have."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from sqlalchemy import event, insert, text

from core.settings import ServiceSettings
from pipelines.errors import InvalidRequestError
from pipelines.model import Claim, ContextSource, Project, RunRequest, RunResult
from pipelines.runs import shares
from pipelines.runs.choosing import Choice, Chooser
from pipelines.runs.queue import queue_name
from pipelines.runs.shares import SharedOrder, Turn, in_turn
from pipelines.runs.waking import waiting
from pipelines.schema import jobs, runs
from pipelines.service import Service
from tests.pipelines.test_pipelines import begun, node
from tests.pipelines.test_pipelines import end as end_job

SOURCE = ContextSource("sha256:" + "0" * 64)


def submit(service: Service, project: str, count: int, priority: int = 0) -> None:
    for _ in range(count):
        service.runs.submit(RunRequest(SOURCE, project, priority=priority))


def take(service: Service, count: int) -> list[Claim]:
    claims = [service.claims.take("w", ()) for _ in range(count)]
    return [claim for claim in claims if claim is not None]


def projects(claims: list[Claim]) -> list[str]:
    return [claim.run.project for claim in claims]


def end(service: Service, claim: Claim) -> None:
    service.claims.finish(claim, "succeeded", "", RunResult(), store=lambda connection: None)


def test_twenty_runs_of_one_project_keep_no_four_of_another_waiting(service: Service) -> None:
    submit(service, "many", 20)
    submit(service, "few", 4)
    assert projects(take(service, 8)) == ["many", "few"] * 4


def test_matrix_of_64_jobs_keeps_another_projects_run_waiting_no_longer_than_one_job_takes(service: Service) -> None:
    """However many workers its jobs have: the first place that gets free is the other one's."""
    run = begun(service, *(node(f"job{number}") for number in range(64)))
    going = take(service, 3)
    assert {claim.run.number for claim in going} == {run}
    submit(service, "other", 1)
    end_job(service, going[0])
    assert projects(take(service, 2)) == ["other", "app"]


def test_share_counts_what_is_going_and_not_what_was_given(service: Service) -> None:
    submit(service, "many", 20)
    first = take(service, 3)
    submit(service, "few", 4)
    for claim in first[:2]:
        end(service, claim)
    assert projects(take(service, 3)) == ["few", "many", "few"]


def test_weight_two_gets_twice_the_places(service: Service) -> None:
    service.projects.put(Project("heavy", weight=2))
    submit(service, "light", 20)
    submit(service, "heavy", 20)
    assert Counter(projects(take(service, 9))) == {"heavy": 6, "light": 3}


def test_higher_priority_goes_before_a_fair_share(service: Service) -> None:
    submit(service, "many", 4, priority=1)
    submit(service, "few", 2)
    assert projects(take(service, 6)) == ["many"] * 4 + ["few"] * 2


@pytest.mark.parametrize("weight", [0, -1, 1001])
def test_weight_is_one_or_more(service: Service, weight: int) -> None:
    with pytest.raises(InvalidRequestError, match="weight"):
        service.projects.put(Project("heavy", weight=weight))


def test_waiting_runs_are_listed_and_explained_in_the_order_in_which_they_are_taken(service: Service) -> None:
    submit(service, "many", 3)
    submit(service, "few", 2)
    submit(service, "few", 1, priority=5)
    service.workers.beat("w", (), 1)
    shown = service.listing.waiting()
    assert service.listing.waiting(2) == shown[:2]
    assert waiting(service.database)[()] == [run.number for run in shown]
    numbers = [claim.run.number for claim in take(service, 1)]
    assert "5 runs" not in service.runs.get(shown[-1].number).reason
    assert "4 runs are ahead" in service.runs.get(shown[-1].number).reason
    assert [*numbers, *(claim.run.number for claim in take(service, 5))] == [run.number for run in shown]


def test_turns_of_many_are_counted_quickly() -> None:
    many = [Turn(number, number, f"p{number % 50}", 0) for number in range(20_000)]
    began = time.monotonic()
    assert len(list(in_turn(many, {}, {f"p{index}": 1 + index % 3 for index in range(50)}))) == 20_000
    assert time.monotonic() - began < 5


@pytest.fixture
def crowd(service: Service) -> tuple[int, int]:
    """How many claim at once, and how many runs: on SQLite claims are one after the other, each with its fsync."""
    return (4, 120) if service.database.is_sqlite else (20, 1000)


def test_claimers_at_once_never_exceed_a_projects_concurrency(service: Service, crowd: tuple[int, int]) -> None:
    """Some projects have a bound and some have none; each run is given away once, and none is left."""
    claimers, count = crowd
    bounds = {"one": 1, "three": 3, "seven": 7, "free": 0}
    for name, bound in bounds.items():
        service.projects.put(Project(name, concurrency=bound))
    with service.database.write() as connection:
        connection.execute(insert(runs), [run_row(number + 1, list(bounds)[number % 4]) for number in range(count)])
        connection.execute(insert(jobs), [job_row(number + 1) for number in range(count)])
    claimed: list[int] = []
    most: Counter[str] = Counter()
    going: Counter[str] = Counter()
    lock = threading.Lock()

    def work(name: str) -> None:
        while len(claimed) < count:
            claim = service.claims.take(name, ())
            if claim is None:
                continue
            project = claim.run.project
            with lock:
                claimed.append(claim.number)
                going[project] += 1
                most[project] = max(most[project], going[project])
            time.sleep(0.003)  # the run is built
            with lock:
                going[project] -= 1
            end(service, claim)

    threads = [threading.Thread(target=work, args=(f"w{index}",)) for index in range(claimers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == count
    assert not [name for name, bound in bounds.items() if bound and most[name] > bound]


def run_row(number: int, project: str) -> dict[str, object]:
    source = '{"type":"context","context":""}'
    return {
        "number": number, "project": project, "state": "queued", "priority": 0, "source": source,
        "created_at": float(number),
    }  # fmt: skip


def job_row(run: int) -> dict[str, object]:
    return {
        "run": run, "place": 1, "name": "build", "kind": "build", "spec": "{}", "state": "queued", "max_attempts": 3,
        "worker_labels": "[]", "queued_at": float(run),
    }  # fmt: skip


def test_claim_waits_for_no_other_on_postgresql(service: Service) -> None:
    """One that stands still with a run and its project in its hands keeps nobody from what is left."""
    if service.database.is_sqlite:
        assert queue_name([]) == "shiplap"  # there a claim is alone by nature
        return
    service.projects.put(Project("held", concurrency=5))
    submit(service, "held", 2)
    submit(service, "other", 2)
    with service.database.write() as stuck:
        stuck.execute(text("SELECT 1 FROM projects WHERE name = 'held' FOR NO KEY UPDATE"))
        first = service.runs.list(project="other")[-1].number
        stuck.execute(text(f"SELECT 1 FROM runs WHERE number = {first} FOR UPDATE"))
        began = time.monotonic()
        claims = take(service, 2)
        assert projects(claims) == ["other"]
        assert claims[0].run.number != first
        assert time.monotonic() - began < 3
    assert sorted(projects(take(service, 5))) == ["held", "held", "other"]


def test_project_that_another_claim_holds_is_asked_for_once(service: Service) -> None:
    """And none of its later runs is taken before its first, should the other claim end in between."""
    service.projects.put(Project("held", concurrency=5))
    submit(service, "held", 9)
    asked: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        asked.append(statement)

    if service.database.is_sqlite:
        assert projects(take(service, 6)) == ["held"] * 5  # there a claim is alone by nature
        return
    with service.database.write() as stuck, service.database.write() as ours:
        stuck.execute(text("SELECT 1 FROM projects WHERE name = 'held' FOR NO KEY UPDATE"))
        event.listen(service.database.engine, "before_cursor_execute", note)
        choice = Chooser(ours, "w", (), time.time(), sparing=False).choose()
    assert choice == Choice(None, passed_by=True)
    assert len([statement for statement in asked if "FOR NO KEY UPDATE" in statement]) == 1


def test_weight_survives_the_settings_and_old_databases_have_one(service: Service, settings: ServiceSettings) -> None:
    del settings
    service.projects.put(Project("p", weight=7))
    assert service.projects.get("p").weight == 7
    submit(service, "q", 1)
    assert service.projects.get("q").weight == 1


class Reads:
    """Stands for the reading of a queue of so many jobs, which takes two seconds of a clock of its own."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.count = 0
        self.now = 0.0

    def __call__(self, connection: object) -> list[Turn]:
        self.count += 1
        self.now += 2.0
        return [Turn(number, number, "web", 0) for number in range(self.length)]


def test_a_long_queue_is_read_once_for_all_who_look_and_a_short_one_each_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for length, counts in ((SharedOrder.SHORT, [1, 2, 3]), (SharedOrder.SHORT + 1, [1, 1, 2])):
        reads = Reads(length)
        monkeypatch.setattr(shares, "turns", reads)
        order = SharedOrder(clock=lambda reads=reads: reads.now)  # type: ignore[misc]  # bound now
        with service.database.read() as connection:
            found = []
            for later_s in (0.0, 14.0, 2.0):
                reads.now += later_s
                assert len(order.now(connection).turns) == length
                found.append(reads.count)
        assert found == counts


def test_while_somebody_reads_a_long_queue_others_get_what_was_known(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(SharedOrder.SHORT + 1)
    monkeypatch.setattr(shares, "turns", reads)
    order = SharedOrder(clock=lambda: reads.now)
    with service.database.read() as connection:
        known = order.now(connection)
        reads.now += 60.0
        with order._reading:
            assert order.now(connection) is known
        assert order.now(connection) is not known
    assert reads.count == 2


def test_a_run_that_ended_since_the_order_was_read_is_not_shown_as_waiting(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedOrder, "SHORT", 0)
    submit(service, "web", 2)
    assert [run.number for run in service.listing.waiting()] == [1, 2]
    monkeypatch.setattr(service.order, "_until", float("inf"))
    service.runs.cancel(1)
    assert [run.number for run in service.listing.waiting()] == [2]
