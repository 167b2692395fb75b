"""Runs in both databases: who gets which, who may write, and what becomes of those whose worker is gone."""

from __future__ import annotations

import contextlib
import threading

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Connection

from core.settings import ServiceSettings
from pipelines.database import migrate
from pipelines.errors import ConflictError, DatabaseFullError, InvalidRequestError, NotFoundError, StaleAttemptError
from pipelines.logs.lines import LogLine, decode_line, encode_line
from pipelines.logs.live import Batch
from pipelines.model import BuildOptions, Claim, ContextSource, GitSource, Project, Run, RunRequest, RunResult
from pipelines.runs.reaper import Reaper
from pipelines.schema import jobs
from pipelines.service import Service

SOURCE = ContextSource("sha256:" + "0" * 64)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def store_nothing(connection: Connection) -> None:
    del connection


def submitted(service: Service, **members: object) -> Run:
    return service.runs.submit(RunRequest(SOURCE, **members))  # type: ignore[arg-type]  # a test's shorthand


def taken(service: Service, worker: str = "w", labels: tuple[str, ...] = ()) -> Claim:
    claim = service.claims.take(worker, labels)
    assert claim is not None
    return claim


def finish(service: Service, claim: Claim) -> None:
    service.claims.finish(claim, "succeeded", "", RunResult(executed=2), store=store_nothing)


def test_run_goes_from_queued_to_succeeded(service: Service) -> None:
    run = submitted(service, options=BuildOptions(tags=("app",), build_args={"A": "1"}))
    assert (run.state, run.attempt) == ("queued", 0)
    assert service.queue.depth() == 1
    claim = taken(service)
    assert (claim.run.number, claim.attempt, claim.next_line) == (run.number, 1, 1)
    assert service.runs.get(run.number).state == "running"
    assert service.runs.get(run.number).options == run.options
    finish(service, claim)
    ended = service.runs.get(run.number)
    assert ended.state == "succeeded"
    assert ended.result == RunResult(executed=2)
    assert service.claims.take("w", ()) is None


def test_higher_priority_goes_first_then_older(service: Service) -> None:
    numbers = [submitted(service, priority=priority).number for priority in (0, 5, 0, 5)]
    assert [taken(service).run.number for _ in numbers] == [numbers[1], numbers[3], numbers[0], numbers[2]]


def test_each_run_is_claimed_once_by_many_workers(service: Service) -> None:
    wanted = sorted(submitted(service).number for _ in range(30))
    claimed: list[int] = []

    def work(name: str) -> None:
        while (claim := service.claims.take(name, ())) is not None:
            claimed.append(claim.run.number)

    threads = [threading.Thread(target=work, args=(f"w{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == wanted


def test_project_never_has_more_runs_going_than_its_concurrency(service: Service) -> None:
    service.projects.put(Project("small", concurrency=1))
    first, second = (submitted(service, project="small").number for _ in range(2))
    other = submitted(service).number
    claim = taken(service)
    assert claim.run.number == first
    assert taken(service).run.number == other
    assert service.claims.take("w", ()) is None
    assert service.runs.get(second).reason == "no worker is running"
    service.workers.beat("w", (), 4)
    assert service.runs.get(second).reason == "project small has 1 run going, and may have 1"
    finish(service, claim)
    assert taken(service).run.number == second


def test_concurrency_holds_against_workers_that_claim_at_once(service: Service) -> None:
    service.projects.put(Project("small", concurrency=2))
    for _ in range(8):
        submitted(service, project="small")
    barrier = threading.Barrier(6)
    claimed: list[Claim] = []

    def work() -> None:
        barrier.wait()
        claim = service.claims.take("w", ())
        if claim is not None:
            claimed.append(claim)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 2


def test_run_goes_only_to_a_worker_with_all_its_labels(service: Service) -> None:
    run = submitted(service, worker_labels=("gpu", "big"))
    service.workers.beat("plain", (), 2)
    assert service.runs.get(run.number).reason == "no running worker has all of the labels big, gpu"
    assert service.claims.take("plain", ("gpu",)) is None
    assert taken(service, "strong", ("big", "gpu", "other")).run.number == run.number


def test_reason_of_waiting_says_what_is_in_the_way(service: Service) -> None:
    service.workers.beat("w", (), 1)
    service.workers.beat("strong", ("gpu",), 1)
    first, second, third = (submitted(service) for _ in range(3))
    assert service.runs.get(third.number).reason == "about to start"
    taken(service, "w")
    taken(service, "strong", ("gpu",))
    assert service.runs.get(third.number).reason == "all workers are busy"
    urgent = submitted(service, priority=1)
    last = submitted(service, worker_labels=("gpu",))
    assert [run.reason for run in service.runs.list(state="queued")] == [
        "all workers with gpu are busy, and 2 runs are ahead of it",
        "all workers are busy",
        "all workers are busy, and 1 run is ahead of it",
    ]
    assert [run.number for run in service.runs.list(state="queued")] == [last.number, urgent.number, third.number]
    assert {run.number for run in service.runs.list(state="running")} == {first.number, second.number}


def test_stale_attempt_cannot_write_or_end_the_run(service: Service) -> None:
    """Two workers that both believe they own a run: the one with the older attempt changes nothing."""
    run = submitted(service)
    stale = taken(service, "one")
    service.claims.release(service.runs.job(run.number).number, stale.attempt, "taken away by a test")
    current = taken(service, "two")
    assert (current.run.number, current.attempt) == (run.number, 2)
    with pytest.raises(StaleAttemptError):
        service.claims.renew(stale)
    with pytest.raises(StaleAttemptError):
        service.claims.why_cancelled(stale)
    with pytest.raises(StaleAttemptError):
        finish(service, stale)
    assert service.runs.get(run.number).worker == "two"
    finish(service, current)
    with pytest.raises(StaleAttemptError):
        finish(service, current)
    assert service.claims.release(service.runs.job(run.number).number, stale.attempt, "late") is None


def test_reaper_requeues_a_run_whose_pulse_stands_still(service: Service) -> None:
    clock = Clock()
    reaper = Reaper(service.database, service.claims, service.queue, lease_s=15, clock=clock)
    claim = taken(service, "dead") if submitted(service) else None
    assert claim is not None
    for _ in range(3):  # the worker lives, however much time passes
        assert look_on(reaper, clock, 14) == 0
        service.claims.renew(claim)
    assert look_on(reaper, clock, 15) == 0
    assert look_on(reaper, clock, 1) == 1
    run = service.runs.get(claim.run.number)
    assert run.state == "queued"
    text = decode_line(service.logs.read(claim.number)[-1][1]).text
    assert text == "attempt 1 of 3 came to nothing: worker dead stopped answering"
    assert taken(service, "alive").attempt == 2


def test_lease_begins_anew_when_the_database_took_no_writes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    reaper = Reaper(service.database, service.claims, service.queue, lease_s=15, clock=clock)
    submitted(service)
    claim = taken(service)
    look_on(reaper, clock, 5)
    with monkeypatch.context() as full:
        full.setattr(service.database, "write", no_room)
        for _ in range(30):
            clock.now += 1
            with contextlib.suppress(DatabaseFullError):
                assert reaper.reap() == 0
    assert look_on(reaper, clock, 14) == 0
    service.claims.renew(claim)


def test_time_in_which_no_reaper_looked_ends_no_lease(service: Service) -> None:
    clock = Clock()
    reaper = Reaper(service.database, service.claims, service.queue, lease_s=15, clock=clock)
    submitted(service)
    taken(service)
    look_on(reaper, clock, 5)
    clock.now += 3600
    assert look_on(reaper, clock, 5) == 0
    assert look_on(reaper, clock, 5) == 1


def look_on(reaper: Reaper, clock: Clock, seconds: int) -> int:
    """How many runs it takes from their workers in this time."""
    taken = 0
    for _ in range(seconds):
        taken += reaper.reap()
        clock.now += 1
    return taken


def no_room() -> None:
    raise DatabaseFullError("no space left on the disk of the service's database")


def test_wall_clock_that_is_set_ends_no_lease(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted(service)
    taken(service)
    reaper = Reaper(service.database, service.claims, service.queue, lease_s=15, clock=Clock())
    for wall in (4e9, 1.0):
        monkeypatch.setattr("time.time", lambda wall=wall: wall)
        assert reaper.reap() == 0


def test_attempts_are_capped(service: Service) -> None:
    run = submitted(service, max_attempts=2)
    for attempt in (1, 2):
        service.claims.release(service.runs.job(run.number).number, taken(service).attempt, "its worker died")
        assert service.runs.get(run.number).attempt == attempt
    ended = service.runs.get(run.number)
    assert ended.state == "error"
    assert ended.reason == "attempt 2 of 2 came to nothing: its worker died"
    assert service.claims.take("w", ()) is None


def test_secrets_of_a_run_go_with_its_last_attempt(service: Service) -> None:
    run = submitted(service, max_attempts=2, secrets={"key": b"hunter22"})
    service.claims.release(service.runs.job(run.number).number, taken(service).attempt, "its worker died")
    job = service.runs.job(run.number).number
    assert service.secrets.reveal(["key"], job=job) == {"key": b"hunter22"}  # the next attempt needs it
    service.claims.release(service.runs.job(run.number).number, taken(service).attempt, "its worker died")
    assert service.runs.get(run.number).state == "error"
    with pytest.raises(NotFoundError):
        service.secrets.reveal(["key"], job=job)


def test_reaper_takes_no_run_whose_pulse_went_on_since_it_looked(service: Service) -> None:
    """Between the reaper's look and its deed the worker may have renewed its lease: then the run stays its own."""
    submitted(service)
    claim = taken(service)
    seen = _pulse(service, claim.number)
    service.claims.renew(claim)
    assert service.claims.release(claim.number, claim.attempt, "stopped answering", pulse=seen) is None
    assert service.runs.get(claim.run.number).state == "running"
    service.claims.renew(claim)
    seen = _pulse(service, claim.number)
    assert service.claims.release(claim.number, claim.attempt, "stopped answering", pulse=seen) is not None
    assert service.runs.get(claim.run.number).state == "queued"


def _pulse(service: Service, number: int) -> int:
    with service.database.read() as connection:
        return int(connection.execute(select(jobs.c.pulse).where(jobs.c.number == number)).scalar_one())


def test_reaper_sends_again_what_redis_lost(service: Service) -> None:
    for _ in range(3):
        submitted(service)
    submitted(service, worker_labels=("gpu",))
    service.live._redis.flushall()
    reaper = Reaper(service.database, service.claims, service.queue)
    reaper.reap()
    assert (service.queue.depth(), service.queue.depth(["gpu"])) == (3, 1)
    reaper.reap()
    assert (service.queue.depth(), service.queue.depth(["gpu"])) == (3, 1)


def test_no_messages_are_sent_for_runs_that_their_project_holds_back(service: Service) -> None:
    service.projects.put(Project("small", concurrency=2))
    for _ in range(5):
        submitted(service, project="small")
    claim = taken(service)
    submitted(service, project="small", worker_labels=("gpu",), priority=1)  # takes nothing away while it waits
    service.live._redis.flushall()
    reaper = Reaper(service.database, service.claims, service.queue)
    reaper.reap()
    assert (service.queue.depth(), service.queue.depth(["gpu"])) == (1, 1)
    taken(service)
    service.live._redis.flushall()
    reaper.reap()
    assert service.queue.depth() == 0
    finish(service, claim)
    reaper.reap()
    assert service.queue.depth() == 1


def test_lines_of_a_dead_worker_that_only_redis_has_are_kept(service: Service) -> None:
    submitted(service)
    claim = taken(service)
    lines = [LogLine(number, "output", f"line {number}", 1.0) for number in (1, 2, 3)]
    data = b"\n".join(map(encode_line, lines))
    assert service.live.add(claim.number, 1, Batch(1, 3, data), create=True)
    service.claims.release(claim.number, claim.attempt, "its worker died")
    late = Batch(4, 4, encode_line(LogLine(4, "output", "from beyond", 1.0)))
    assert not service.live.add(claim.number, 1, late, create=False)
    read = [decode_line(data).text for _, data in service.logs.read(claim.number)]
    assert read == ["line 1", "line 2", "line 3", "attempt 1 of 3 came to nothing: its worker died"]
    assert taken(service).next_line == 5


def test_queued_run_is_cancelled_at_once(service: Service) -> None:
    run = submitted(service)
    job = service.runs.job(run.number).number
    ended = service.runs.cancel(run.number, by="ana")
    assert (ended.state, ended.reason, ended.cancelled_by) == ("cancelled", "cancelled by ana", "ana")
    assert decode_line(service.logs.read(job)[-1][1]).text == "cancelled by ana before it started"
    assert service.claims.take("w", ()) is None
    with pytest.raises(ConflictError, match="has ended: cancelled"):
        service.runs.cancel(run.number)
    assert [batch for batch in service.logs.follow(job) if batch]


def test_running_run_is_told_to_cancel_and_not_tried_again(service: Service) -> None:
    run = submitted(service)
    claim = taken(service)
    assert service.claims.why_cancelled(claim) is None
    service.runs.cancel(run.number, by="ana")
    service.runs.cancel(run.number, by="bob")
    assert service.claims.why_cancelled(claim) == "cancelled by ana"
    assert service.runs.get(run.number).cancelled_by == "ana"
    service.claims.release(service.runs.job(run.number).number, claim.attempt, "its worker died")
    assert service.runs.get(run.number).state == "cancelled"


def test_retry_is_a_new_run_of_the_same_request(service: Service) -> None:
    run = submitted(service, priority=3, worker_labels=("gpu",))
    with pytest.raises(ConflictError):
        service.runs.retry(run.number)
    service.runs.cancel(run.number)
    again = service.runs.retry(run.number, by="ana")
    assert again.number > run.number
    assert (again.trigger.retry_of, again.trigger.by) == (run.number, "ana")
    assert (again.source, again.priority, again.worker_labels) == (run.source, 3, ("gpu",))


def test_list_is_newest_first_and_goes_on(service: Service) -> None:
    numbers = [submitted(service).number for _ in range(5)]
    other = submitted(service, project="other").number
    assert [run.number for run in service.runs.list(limit=2)] == [other, numbers[4]]
    assert [run.number for run in service.runs.list(before=numbers[4], limit=2)] == [numbers[3], numbers[2]]
    assert [run.number for run in service.runs.list(project="other")] == [other]
    assert service.runs.list(state="running") == []


@pytest.mark.parametrize(
    "request_",
    [
        RunRequest(SOURCE, priority=101),
        RunRequest(SOURCE, max_attempts=0),
        RunRequest(SOURCE, project="No Such/Name"),
        RunRequest(SOURCE, worker_labels=("UPPER",)),
        RunRequest(SOURCE, worker_labels=tuple("abcdef")),
        RunRequest(ContextSource("latest")),
        RunRequest(SOURCE, options=BuildOptions(timeout_s=0)),
        RunRequest(SOURCE, options=BuildOptions(tags=("UPPER:x",))),
        RunRequest(SOURCE, options=BuildOptions(platform="?")),
        RunRequest(SOURCE, options=BuildOptions(build_args={"a b": "c"})),
        RunRequest(SOURCE, options=BuildOptions(target="a\0b")),
        RunRequest(GitSource("https://example.org/x", ref="\0")),
    ],
)
def test_impossible_requests_are_refused(service: Service, request_: RunRequest) -> None:
    with pytest.raises(InvalidRequestError):
        service.runs.submit(request_)
    assert service.runs.list() == []


def test_unknown_run_is_not_found(service: Service) -> None:
    for look in (service.runs.get, service.runs.cancel, service.runs.retry, service.runs.steps, service.runs.job):
        with pytest.raises(NotFoundError, match="no run 7"):
            look(7)


def test_submission_is_kept_while_redis_is_away(settings: ServiceSettings) -> None:
    migrate(settings)
    with Service.open(settings._replace(redis_url="unix:///nonexistent/redis.sock")) as cut_off:
        run = submitted(cut_off)
    with Service.open(settings) as service:
        assert service.queue.depth() == 0
        Reaper(service.database, service.claims, service.queue).reap()
        assert service.queue.depth() == 1
        assert taken(service).run.number == run.number
