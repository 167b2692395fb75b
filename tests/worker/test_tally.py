"""Workers that end by themselves: after so many jobs, or when there was nothing to do for so long."""

from __future__ import annotations

import time

from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.service import Workforce, finished
from tests.worker.test_worker_faults import submit
from worker.tally import Tally

QUICK = "FROM base\nRUN true\n"


def test_so_many_jobs_are_taken_and_no_more() -> None:
    tally = Tally(most=2)
    assert [tally.may_look(), tally.may_look(), tally.may_look()] == [True, True, False], "two look already"
    tally.looked(found=True)
    tally.looked(found=False)
    assert not tally.is_done(time.monotonic(), busy=False)
    assert tally.may_look()
    tally.looked(found=True)
    assert not tally.may_look()
    assert tally.is_done(time.monotonic(), busy=True), "what goes on ends as after SIGTERM"


def test_idle_is_who_has_taken_nothing_and_does_nothing_for_so_long() -> None:
    tally = Tally(idle_s=3.0)
    now = time.monotonic()
    assert not tally.is_done(now + 2.0, busy=False)
    assert tally.is_done(now + 4.0, busy=False)
    assert not tally.is_done(now + 4.0, busy=True)
    assert tally.may_look()
    tally.looked(found=False)
    assert tally.is_done(now + 4.0, busy=False), "looking is not working"
    assert tally.may_look()
    tally.looked(found=True)
    assert not tally.is_done(time.monotonic() + 2.0, busy=False)


def test_without_either_a_worker_goes_on() -> None:
    assert not Tally().is_done(time.monotonic() + 1e9, busy=False)
    assert all(Tally().may_look() for _ in range(100))


def test_worker_ends_after_its_jobs_and_leaves_the_others(service: Service, workers: Workforce) -> None:
    runs = [submit(service, QUICK) for _ in range(3)]
    worker = workers.start("--concurrency", "1", "--max-jobs", "2")
    assert worker.process.wait(stretched(60)) == 0
    states = [service.runs.get(run.number).state for run in runs]
    assert states == ["succeeded", "succeeded", "queued"]


def test_worker_ends_when_nothing_has_come(service: Service, workers: Workforce) -> None:
    worker = workers.start("--concurrency", "1", "--until-idle", "1.5")
    assert finished(service, submit(service, QUICK).number).state == "succeeded"
    assert worker.process.wait(stretched(60)) == 0
    assert service.workers.list() == []
